"""Linear layers."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Workload, apply_train
from sttp_riemann.layers.base import SpectralLayer, filled
from sttp_riemann.layers.tracing import opaque


class SpectralLinear(SpectralLayer, nn.Linear):  # type: ignore[override, misc]
    """Linear layer with a spectral weight (out_features, in_features)."""

    applications = ("factored", "weight", "train")

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        return layer.out_features, (layer.in_features,)

    @staticmethod
    @override
    def columns(layer: nn.Module, input: Tensor) -> Tensor:
        return input.reshape(-1, input.shape[-1])

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix

    @override
    def workload(self, entries: int) -> Workload:
        """One place for every row of the input."""
        rows = entries // self.in_features
        return Workload(rows, rows, rows, self.in_features, self.out_features)

    @override
    @opaque
    def forward(self, input: Tensor) -> Tensor:
        application = self.choose(input)
        if application == "weight":
            return F.linear(input, self.built_weight(), self.bias)
        if application == "train":
            return self._by_cores(input)
        left, right = self.factors()
        encode = partial(F.linear, input, right.mT)
        codes = encode()
        with self._keeping(codes, encode):
            return F.linear(codes, left, self.bias)

    @override
    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        first = filled(nn.Linear(self.in_features, right.shape[1], bias=False), right.mT)
        return nn.Sequential(first, filled(nn.Linear(right.shape[1], self.out_features), left, self.bias))

    def _by_cores(self, input: Tensor) -> Tensor:
        left, values, right = self.core_frames()
        rows = input.reshape(-1, self.in_features).to(values.dtype)
        out = apply_train(self.shape, rows, left, values, right)
        out = out.to(input.dtype).reshape(*input.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias
