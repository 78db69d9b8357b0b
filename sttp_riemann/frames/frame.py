"""Base class of all kinds of frames: the frames of one train, and equal frames computed in one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.trains.contraction import Pull
from sttp_riemann.trains.shape import Core


class Frames(nn.Module, ABC):
    """Orthonormal frames (rows, rank), one per core of a train, stored in the numbers that its kind trains.

    Frame k is one parameter, named ``k``, plus any buffers; a frame without degrees of freedom has no parameter. A new
    way to store frames is one subclass and one row in `sttp_riemann.frames.FRAMES`.

    Parameters
    ----------
    cores : sequence of Core
        Shapes, from the outer end of the train to the spectrum.
    frames : sequence of Tensor
        (rows, rank) each, with orthonormal columns; in St_U where the core is reduced and the kind is canonical.
    orders : sequence of Tensor
        (rows,) each: rows in the order in which they lead; by default the first rows lead.

    Attributes
    ----------
    canonical : bool
        Whether frames of St_U are stored as such, which leaves no gauge to fix.
    direct : bool
        Whether the parameter is the frame itself.
    pivoted : bool
        Whether any rows of a frame of St_U may lead, and not only the first ones.
    """

    canonical: ClassVar[bool]
    direct: ClassVar[bool]
    pivoted: ClassVar[bool] = False

    def __init__(self, cores: Sequence[Core], frames: Sequence[Tensor], orders: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.cores = tuple(cores)
        for k, order in enumerate(orders):
            self.lead(k, order)
        for k, frame in enumerate(frames):
            self.hold(k, frame)

    def __len__(self) -> int:
        return len(self.cores)

    def __getitem__(self, k: int) -> nn.Parameter | None:
        """The parameter of frame k; None if it has no degrees of freedom."""
        found: nn.Parameter | None = getattr(self, str(range(len(self))[k]))
        return found

    @staticmethod
    @abstractmethod
    def key(core: Core) -> str:
        """Key shared by all cores whose frames are computed in one batch.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        str
            Readable: the shape and whatever else matters.
        """

    @staticmethod
    @abstractmethod
    def components(core: Core) -> int:
        """Number of tensors that `tensors` returns for a core of this shape.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        int
        """

    @staticmethod
    @abstractmethod
    def numbers(core: Core) -> int:
        """Number of trainable numbers stored for a core.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        int
            Size of its parameter.
        """

    @abstractmethod
    def hold(self, k: int, frame: Tensor) -> None:
        """Register the numbers of a frame.

        Parameters
        ----------
        k : int
            Its place.
        frame : Tensor
            (rows, rank). On the meta device it has no entries, and only sizes are registered: numbers are loaded later.
        """

    def lead(self, k: int, order: Tensor) -> None:
        """Let other rows of a frame lead from now on, in place; `assign_` has to follow.

        Parameters
        ----------
        k : int
            Its place.
        order : Tensor
            (rows,), the leading rows first. Kinds that are not pivoted take no notice.
        """

    def order(self, k: int) -> Tensor:
        """Rows of a frame in the order in which they lead.

        Parameters
        ----------
        k : int
            Its place.

        Returns
        -------
        Tensor
            (rows,), int64.
        """
        return torch.arange(self.cores[k].rows, device=self.tensors(k)[0].device)

    @abstractmethod
    def tensors(self, k: int) -> tuple[Tensor, ...]:
        """The tensors that a frame is computed from.

        Parameters
        ----------
        k : int
            Its place.

        Returns
        -------
        tuple of Tensor
            At least one; buffers before the parameter, if it has one.
        """

    def held(self) -> tuple[Tensor | None, ...]:
        """All tensors of all frames; None stands for a parameter without entries."""
        return *self._parameters.values(), *self._buffers.values()

    @staticmethod
    @abstractmethod
    def materialize(core: Core, *stacks: Tensor) -> Tensor:
        """Compute equal frames, differentiably.

        Parameters
        ----------
        core : Core
            Their common shape.
        *stacks : Tensor
            What `tensors` returns for each of them, stacked: (B, ...).

        Returns
        -------
        Tensor
            (B, rows, rank), orthonormal columns.
        """

    @classmethod
    def trace(cls, core: Core, *stacks: Tensor) -> tuple[Tensor, Pull]:
        """Compute equal frames without autograd, together with their pullback.

        Parameters
        ----------
        core : Core
            Their common shape.
        *stacks : Tensor
            As `materialize` takes them.

        Returns
        -------
        frames : Tensor
            As `materialize` returns them.
        pull : callable
            From the gradient of the frames to those of the stacks, None for what is not trained; repeatable.

        Notes
        -----
        The default uses autograd; a kind with a cheaper way overrides it.
        """
        leaves = [stack.detach().requires_grad_(stack.is_floating_point()) for stack in stacks]
        with torch.enable_grad():
            frames = cls.materialize(core, *leaves)

        def pull(grad: Tensor) -> Sequence[Tensor | None]:
            found: Sequence[Tensor | None] = torch.autograd.grad(
                frames, leaves, grad, retain_graph=True, allow_unused=True
            )
            return found

        return frames.detach(), pull

    @abstractmethod
    def assign_(self, k: int, frame: Tensor) -> None:
        """Replace a frame, in place.

        Parameters
        ----------
        k : int
            Its place.
        frame : Tensor
            (rows, rank), under the same conditions as in the constructor.
        """

    def frame(self, k: int, dtype: torch.dtype) -> Tensor:
        """One frame, differentiable.

        Parameters
        ----------
        k : int
            Its place.
        dtype : torch.dtype
            Of the arithmetic and of the frame.

        Returns
        -------
        Tensor
            (rows, rank).
        """
        wide = (t.to(dtype) if t.is_floating_point() else t for t in self.tensors(k))
        return self.materialize(self.cores[k], *(t.unsqueeze(0) for t in wide))[0]

    def restore(self) -> None:
        """Restore the class of parameters that copies and loaders may have made plain ones."""

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frames:
        """Cast and move, but never below float32: the arithmetic of frames needs it."""

        def keep_wide(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if tensor.is_floating_point() and wide_dtype(moved.dtype) != moved.dtype:
                return tensor.to(device=moved.device, dtype=wide_dtype(tensor.dtype))
            return moved

        super()._apply(keep_wide, recurse)
        self.restore()
        return self

    @override
    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for tensor in (*self.parameters(recurse=False), *self.buffers(recurse=False)):
            # With assign=True the parameters now are the tensors of the narrow checkpoint
            if tensor.is_floating_point() and wide_dtype(tensor.dtype) != tensor.dtype:
                tensor.data = tensor.data.to(wide_dtype(tensor.dtype))
        self.restore()


def orthogonality_error(frames: Tensor) -> float:
    """Largest entry of abs(X^T X - I) over a batch of frames.

    Parameters
    ----------
    frames : Tensor
        (..., rows, rank).

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
        The dtype of a model.

    Returns
    -------
    torch.dtype
        The same; float32 for half precision.
    """
    return dtype if dtype in (torch.float32, torch.float64) else torch.promote_types(dtype, torch.float32)


def full_precision(device: torch.device) -> Any:
    """Context that keeps autocast from narrowing the arithmetic of frames.

    Parameters
    ----------
    device : torch.device
        Where the arithmetic runs.

    Returns
    -------
    context manager
    """
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
