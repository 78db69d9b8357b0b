"""Tensors that lie side by side in memory."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sttp_riemann.compat import in_transform


def side_by_side(tensors: Sequence[Tensor]) -> Tensor | None:
    """The tensor whose consecutive rows these are.

    Parameters
    ----------
    tensors : sequence of Tensor
        Of equal shape and dtype, at least one.

    Returns
    -------
    Tensor or None
        (B, ...), a view without a gradient; None if there is none.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.memory import side_by_side
    >>> whole = torch.randn(3, 4, 2)
    >>> side_by_side(whole.unbind()).data_ptr() == whole.data_ptr(), side_by_side([whole[0], whole[2]])
    (True, None)
    """
    first = tensors[0].detach()
    # What a tracer or a transform hands out has no address
    if type(first) is not Tensor or in_transform():
        return None
    begin, size = first.data_ptr(), first.numel() * first.element_size()
    storage = first.untyped_storage()
    if begin + len(tensors) * size > storage.data_ptr() + storage.nbytes():
        return None
    # An address inside a storage belongs to that storage
    places = range(begin, begin + len(tensors) * size, max(size, 1))
    if any(t.data_ptr() != place or not t.is_contiguous() for t, place in zip(tensors, places, strict=True)):
        return None
    return first.as_strided((len(tensors), *first.shape), (first.numel(), *first.stride()))
