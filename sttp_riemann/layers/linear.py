"""Linear layers."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Application, Workload, apply_train
from sttp_riemann.layers.base import SpectralLayer, filled
from sttp_riemann.layers.tracing import opaque


class Rowwise(SpectralLayer):
    """Layer that multiplies every row of its input by W, however it stores W."""

    applications = ("factored", "weight", "train")
    bias: nn.Parameter | None

    @staticmethod
    @override
    def columns(layer: nn.Module, input: Tensor) -> Tensor:
        return input.reshape(-1, input.shape[-1])

    @override
    def workload(self, entries: int) -> Workload:
        """One place for every row of the input."""
        rows = entries // self.shape.d_in
        return Workload(rows, rows, rows, self.shape.d_in, self.shape.d_out)

    @override
    @opaque
    def forward(self, input: Tensor) -> Tensor:
        return self.applied(input, input)

    @override
    def by_weight(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
        return F.linear(input, self.to_matrix(weight), bias)

    @override
    def by_factors(self, application: Application, bias: Tensor | None, input: Tensor) -> Tensor:
        if application == "train":
            return self._by_cores(input, bias)
        left, right = self.factors()
        encode = partial(F.linear, input, right.mT)
        codes = encode()
        with self._keeping(codes, encode):
            return F.linear(codes, left, bias)

    @override
    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        first = filled(nn.Linear(self.shape.d_in, right.shape[1], bias=False), right.mT)
        return nn.Sequential(first, filled(nn.Linear(right.shape[1], self.shape.d_out), left, self.bias))

    def _by_cores(self, input: Tensor, bias: Tensor | None) -> Tensor:
        left, values, right = self.core_frames()
        rows = input.reshape(-1, self.shape.d_in).to(values.dtype)
        out = apply_train(self.shape, rows, left, values, right)
        out = out.to(input.dtype).reshape(*input.shape[:-1], self.shape.d_out)
        return out if bias is None else out + bias


class SpectralLinear(Rowwise, nn.Linear):  # type: ignore[override, misc]
    """Linear layer with a spectral weight (out_features, in_features)."""

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        return layer.out_features, (layer.in_features,)

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix
