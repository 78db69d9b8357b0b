"""What every kind of frame offers: a bank of equally shaped orthonormal frames in one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from sttp_riemann.tt import Core


class Bank(nn.Module, ABC):
    """A batch of B frames of shape rows x rank, held in whatever numbers the kind of frame is trained in.

    A new way to store a frame is one subclass and one row in `sttp_riemann.frames.FRAMES`.

    Parameters
    ----------
    frames : Tensor
        (B, rows, rank), orthonormal columns.
    reduced : bool
        Whether all of them are in St_U, that is, have an upper triangular leading block.
    """

    canonical: ClassVar[bool]
    """Whether frames of St_U are stored as such, so that there is no gauge left to fix."""

    @staticmethod
    @abstractmethod
    def key(core: Core) -> str:
        """Name of the bank that a core belongs to."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything the frames are computed from."""

    @abstractmethod
    def materialize(self, *tensors: Tensor) -> Tensor:
        """Frames (B, rows, rank) as a differentiable function of `tensors`, which are shaped as `self.tensors()`."""

    @abstractmethod
    def assign_(self, frames: Tensor) -> None:
        """Hold other frames from now on, in place."""

    def select(self, index: int) -> Tensor:
        """One frame (1, rows, rank), without computing the others."""
        return self.materialize(*(t[index : index + 1] for t in self.tensors()))

    @staticmethod
    @abstractmethod
    def numbers(core: Core) -> int:
        """Trainable numbers that are kept for a core."""


def orthogonality_error(frames: Tensor) -> float:
    """Largest entry of abs(X^T X - I) over a batch of frames (B, rows, rank)."""
    gram = frames.mT @ frames
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    return float(gram.abs().max()) if gram.numel() else 0.0


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for manifold arithmetic: never below float32."""
    return torch.promote_types(dtype, torch.float32)
