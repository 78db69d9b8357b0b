"""Intermediate results that the backward recomputes instead of keeping."""

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
    """Context for operations that would save a result for their backward.

    Parameters
    ----------
    result : Tensor
        Result of `compute`, possibly reshaped.
    compute : callable
        Recomputes it from tensors that are saved anyway.
    choice : {"auto", "always", "never"}
        Whether to recompute it in the backward; "auto" does so where it is larger than `room`, unless other hooks on
        saved tensors are active, such as those of activation checkpointing.
    room : float
        Numbers.

    Returns
    -------
    context manager
        Without effect where the result is kept, no backward follows, or a compiler decides.

    Notes
    -----
    Chen et al. 2016 (arXiv 1604.06174), applied to single results. Second derivatives are correct: autograd tracks the
    origin of the unpacked result.
    """
    if choice == "never" or not torch.is_grad_enabled() or in_transform():
        return nullcontext()
    if choice == "auto" and (result.numel() <= room or _others_decide()):
        return nullcontext()
    return _computed_again(result, compute)


def _others_decide() -> bool:
    # Older releases of torch cannot report it
    innermost = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
    return innermost(True) is not None


def _computed_again(result: Tensor, compute: Callable[[], Tensor]) -> AbstractContextManager[None]:
    # Not the tensor itself: packing must not keep it alive
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
