"""Compact WY of tiny frames in one compiled loop, where calling an operator costs more than its arithmetic."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

MOST = 2**15
"""Multiply-adds of a Gram matrix, over the batch, up to which the loop is the faster way on one core."""
LIBRARY = "sttp_riemann.frames._tiny"
"""What `tiny.c` is compiled to while the package is installed, where there is a compiler."""


def fits(reflectors: Tensor) -> bool:
    """Whether a batch of reflectors is for the loop: tiny, in float32, on the CPU, and the loop is there.

    Parameters
    ----------
    reflectors : Tensor
        (B, d, r).

    Returns
    -------
    bool
    """
    return (
        reflectors.numel() * reflectors.shape[-1] <= MOST
        and reflectors.dtype == torch.float32
        and reflectors.device.type == "cpu"
        and _library() is not None
    )


def check_shape(reflectors: Tensor) -> None:
    """See to it that no more columns are asked for than there are rows; the loop would read past its input.

    Parameters
    ----------
    reflectors : Tensor
        (B, d, r).

    Raises
    ------
    ValueError
        r is above d.
    """
    _, rows, columns = reflectors.shape
    if columns > rows:
        raise ValueError(f"reflectors of {rows} rows make at most {rows} orthonormal columns, not {columns}")


def forward(h: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, and what their backward needs.

    Parameters
    ----------
    h : Tensor
        (B, d, r), reflectors.
    signs : Tensor or None
        (B, r), D; ones by default.

    Returns
    -------
    tuple of Tensor
        Q = E D + H M, (B, d, r); T^{-1}, its upper triangle alone, and M = -T H_top^T D, (B, r, r) each.
    """
    batch, _, r = h.shape
    found = h.new_empty(h.shape), h.new_empty(batch, r, r), h.new_empty(batch, r, r)
    _run("frames", h, _given(signs, h), *found)
    return found


def backward(h: Tensor, signs: Tensor | None, t_inverse: Tensor, m: Tensor, grad: Tensor) -> Tensor:
    """Gradient of reflectors.

    Parameters
    ----------
    h, signs, t_inverse, m : Tensor
        What `forward` had and gave.
    grad : Tensor
        (B, d, r), of the frames.

    Returns
    -------
    Tensor
        (B, d, r).
    """
    out, room = h.new_empty(h.shape), h.new_empty(2, *m.shape[1:], dtype=torch.float64)
    _run("gradient", h, _given(signs, h), t_inverse, m, grad, out, *room)
    return out


def _given(signs: Tensor | None, h: Tensor) -> Tensor:
    # The loop reads as much as it expects to be there
    size = h.shape[0], h.shape[2]
    return h.new_ones(size) if signs is None else signs.to(h.dtype).expand(size)


def _run(function: str, *tensors: Tensor) -> None:
    check_shape(tensors[0])
    arrays = [t.contiguous() for t in tensors]  # alive until the call ends
    sizes = map(ctypes.c_long, tensors[0].shape)
    getattr(_library(), function)(*sizes, *(ctypes.c_void_p(a.data_ptr()) for a in arrays))


@cache
def _library() -> ctypes.CDLL | None:
    found = find_spec(LIBRARY)
    return None if found is None or found.origin is None else ctypes.CDLL(found.origin)
