"""Intermediate results that are computed again in the backward instead of kept for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sttp_riemann.reuse import in_transform


def computed_again(result: Tensor, compute: Callable[[], Tensor]) -> AbstractContextManager[None]:
    """While active, operations that would keep a result for their backward keep how to compute it instead.

    Parameters
    ----------
    result : Tensor
        What `compute` gave, or the same in another shape.
    compute : callable
        Computes the same again, from tensors that are kept anyway.

    Returns
    -------
    context manager
        One without effect where no backward follows, or a compiler decides for itself what to keep.

    Notes
    -----
    Chen et al. 2016 (arXiv 1604.06174), for single results. Second derivatives are those of the result itself: autograd
    knows where what it unpacks came from.
    """
    if not torch.is_grad_enabled() or in_transform():
        return nullcontext()
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
