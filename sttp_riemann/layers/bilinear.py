"""Bilinear layers."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Application, Workload
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.layers.tracing import opaque


class SpectralBilinear(SpectralLayer, nn.Bilinear):  # type: ignore[override, misc]
    """Bilinear layer with a spectral weight (out_features, in1_features, in2_features).

    The matrix is out_features x (in1_features * in2_features): it multiplies all products of two entries.
    """

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        return layer.out_features, (layer.in1_features * layer.in2_features,)

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix.reshape(-1, self.in1_features, self.in2_features)

    @override
    def workload(self, entries: int) -> Workload:
        """One place for every row of the first input."""
        rows = entries // self.in1_features
        return Workload(rows, rows, rows, self.in1_features + self.in2_features, self.out_features)

    @override
    @opaque
    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return self.applied(input1, input1, input2)

    @override
    def by_weight(self, weight: Tensor, bias: Tensor | None, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, weight, bias)

    @override
    def by_factors(self, application: Application, bias: Tensor | None, input1: Tensor, input2: Tensor) -> Tensor:
        left, right = self.factors()
        encode = partial(F.bilinear, input1, input2, self.from_matrix(right.mT))
        codes = encode()
        with self._keeping(codes, encode):
            return F.linear(codes, left, bias)

    @override
    def thin_layers(self) -> None:
        """None: a sequence of layers takes one input."""
