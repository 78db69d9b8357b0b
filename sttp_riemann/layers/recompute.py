"""Intermediate results that are computed again in the backward instead of kept for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sttp_riemann.compat import in_transform

Recompute = Literal["auto", "always", "never"]
RECOMPUTE: tuple[Recompute, ...] = ("auto", "always", "never")


def keeping(
    result: Tensor, compute: Callable[[], Tensor], choice: Recompute, room: float
) -> AbstractContextManager[None]:
    """Context for the operations that would keep a result for their backward.

    Parameters
    ----------
    result : Tensor
        What `compute` gave, or the same in another shape.
    compute : callable
        Computes the same again, from tensors that are kept anyway.
    choice : {"auto", "always", "never"}
        Whether to compute it again in the backward; "auto" does where it is larger than `room`, but leaves it to others
        that look after what is kept, as activation checkpointing does.
    room : float
        Numbers.

    Returns
    -------
    context manager
        One without effect where the result is kept, no backward follows, or a compiler decides for itself.

    Notes
    -----
    Chen et al. 2016 (arXiv 1604.06174), for single results. Second derivatives are those of the result itself: autograd
    knows where what it unpacks came from.
    """
    if choice == "never" or not torch.is_grad_enabled() or in_transform():
        return nullcontext()
    if choice == "auto" and (result.numel() <= room or _others_decide()):
        return nullcontext()
    return _computed_again(result, compute)


def _others_decide() -> bool:
    # Older releases of torch do not tell
    innermost = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
    return innermost(True) is not None


def _computed_again(result: Tensor, compute: Callable[[], Tensor]) -> AbstractContextManager[None]:
    # Not the tensor: whoever packs must not keep it alive
    address, shape, entries, kind = result.data_ptr(), result.shape, result.numel(), result.device.type
    narrow = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if narrow else None

    def pack(tensor: Tensor) -> Tensor | torch.Size:
        same = tensor.data_ptr() == address and tensor.numel() == entries
        return tensor.shape if same and (tensor.shape == shape or tensor.is_contiguous()) else tensor

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad(), torch.autocast(kind, dtype=dtype, enabled=narrow):
            return compute().reshape(kept)

    return saved_tensors_hooks(pack, unpack)  # type: ignore[no-any-return]
