"""Linear layers."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sttp_riemann.layers.application import Workload, apply_train
from sttp_riemann.layers.base import SpectralLayer, filled
from sttp_riemann.layers.tracing import opaque


class SpectralLinear(SpectralLayer, nn.Linear):  # type: ignore[override, misc]
    """Linear layer with a spectral weight (out_features, in_features)."""

    applications = ("factored", "weight", "train")

    @staticmethod
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """Out features; in features.

        Parameters
        ----------
        layer : nn.Linear
            An ordinary layer.

        Returns
        -------
        tuple
            ``(out_features, (in_features,))``.
        """
        return layer.out_features, (layer.in_features,)

    @staticmethod
    def columns(layer: nn.Module, input: Tensor) -> Tensor:
        """The input, flattened.

        Parameters
        ----------
        layer : nn.Linear
            An ordinary layer.
        input : Tensor
            (..., in_features).

        Returns
        -------
        Tensor
            (N, in_features).
        """
        return input.reshape(-1, input.shape[-1])

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """The matrix itself.

        Parameters
        ----------
        matrix : Tensor
            (out_features, in_features).

        Returns
        -------
        Tensor
            The same.
        """
        return matrix

    def workload(self, entries: int) -> Workload:
        """A place a row."""
        rows = entries // self.in_features
        return Workload(rows, rows, rows, self.in_features, self.out_features)

    @opaque
    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        input : Tensor
            (..., in_features).

        Returns
        -------
        Tensor
            (..., out_features).
        """
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

    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        first = filled(nn.Linear(self.in_features, right.shape[1], bias=False), right.mT)
        return nn.Sequential(first, filled(nn.Linear(right.shape[1], self.out_features), left, self.bias))

    def _by_cores(self, input: Tensor) -> Tensor:
        left, values, right = self.core_frames()
        rows = input.reshape(-1, self.in_features).to(values.dtype)
        out = apply_train(self.shape, rows, left, values, right)
        out = out.to(input.dtype).reshape(*input.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias
