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
        """Name of the bank that a core belongs to.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        str
            Equal for cores whose frames share a batch.
        """

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything the frames are computed from.

        Returns
        -------
        tuple of Tensor
            Parameters, and buffers that take part; each has B rows.
        """

    @abstractmethod
    def materialize(self, *tensors: Tensor) -> Tensor:
        """Compute the frames as a differentiable function of tensors.

        Parameters
        ----------
        *tensors : Tensor
            Shaped as those of `tensors`, which are the ones to pass but under a transform.

        Returns
        -------
        Tensor
            (B, rows, rank), orthonormal columns.
        """

    @abstractmethod
    def assign_(self, frames: Tensor) -> None:
        """Hold other frames from now on, in place.

        Parameters
        ----------
        frames : Tensor
            (B, rows, rank), orthonormal columns; in St_U where the bank is reduced and stores St_U as such.
        """

    def select(self, index: int) -> Tensor:
        """One frame (1, rows, rank), without computing the others.

        Parameters
        ----------
        index : int
            Place of the frame in the batch.

        Returns
        -------
        Tensor
            (1, rows, rank), differentiable.
        """
        return self.materialize(*(t[index : index + 1] for t in self.tensors()))

    @staticmethod
    @abstractmethod
    def numbers(core: Core) -> int:
        """Trainable numbers that are kept for a core.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        int
            Entries of its frame in the bank's parameters.
        """


def orthogonality_error(frames: Tensor) -> float:
    """Largest entry of abs(X^T X - I) over a batch of frames.

    Parameters
    ----------
    frames : Tensor
        (B, rows, rank).

    Returns
    -------
    float
        0 for a batch without entries.
    """
    gram = frames.mT @ frames
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    return float(gram.abs().max()) if gram.numel() else 0.0


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for manifold arithmetic: never below float32.

    Parameters
    ----------
    dtype : torch.dtype
        What a model is in.

    Returns
    -------
    torch.dtype
        The same, or float32 for half precision.
    """
    return torch.promote_types(dtype, torch.float32)
