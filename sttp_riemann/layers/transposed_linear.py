"""transformers' Conv1D, a linear layer that stores its weight transposed; imported where a model has one."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from sttp_riemann.layers.linear import Rowwise


class SpectralTransposedLinear(Rowwise, Conv1D):  # type: ignore[override, misc]
    """Linear layer with a spectral weight (in, out), as in GPT-2."""

    nf: int
    nx: int
    __repr__ = Rowwise.__repr__

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        return layer.nf, (layer.nx,)

    @staticmethod
    @override
    def to_matrix(weight: Tensor) -> Tensor:
        return weight.mT

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix.mT

    @override
    def extra_repr(self) -> str:
        return f"nf={self.nf}, nx={self.nx}{super().extra_repr()}"
