"""Compact WY of tiny frames in one compiled loop, where calling an operator costs more than its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST = 2**15
"""Multiply-adds of a Gram matrix, over the batch, up to which the loop is the faster way on one core."""
DTYPES = (torch.float32, torch.float64)


def fits(reflectors: Tensor) -> bool:
    """Whether a batch of reflectors is for the loop: on the CPU, tiny, and numba is installed.

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
        and reflectors.device.type == "cpu"
        and reflectors.dtype in DTYPES
        and _loops() is not None
    )


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
    q, t_inverse, m = h.new_empty(h.shape), h.new_empty(batch, r, r), h.new_empty(batch, r, r)
    _run(0, h, _given(signs, h), q, t_inverse, m)
    return q, t_inverse, m


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
    out = h.new_empty(h.shape)
    _run(1, h, _given(signs, h), t_inverse, m, grad, out)
    return out


def _given(signs: Tensor | None, h: Tensor) -> Tensor:
    return h.new_ones(h.shape[0], h.shape[2]) if signs is None else signs


def _run(which: int, *tensors: Tensor) -> None:
    loops = _loops()
    assert loops is not None
    loops[which](*(t.detach().contiguous().numpy() for t in tensors))


@cache
def _loops() -> tuple[Callable[..., None], Callable[..., None]] | None:
    try:
        from numba import njit
    except ImportError:
        return None
    return _compiled(njit, _forward), _compiled(njit, _backward)


def _compiled(njit: Any, loop: Callable[..., None]) -> Callable[..., None]:
    try:
        compiled: Callable[..., None] = njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # nowhere to keep machine code from one process to the next
        compiled = njit(nogil=True)(loop)
    return compiled


# As in `householder.py`, but that sums are in float64.


def _forward(h: np.ndarray, signs: np.ndarray, q: np.ndarray, t_inverse: np.ndarray, m: np.ndarray) -> None:
    batch, d, r = h.shape
    for b in range(batch):
        for i in range(r):
            for j in range(i, r):
                total = 0.0
                for k in range(d):
                    total += np.float64(h[b, k, i]) * h[b, k, j]
                t_inverse[b, i, j] = total / 2 if i == j else total
        for j in range(r):
            for i in range(r - 1, -1, -1):
                total = -np.float64(signs[b, j]) * h[b, j, i]
                for k in range(i + 1, r):
                    total -= np.float64(t_inverse[b, i, k]) * m[b, k, j]
                m[b, i, j] = total / t_inverse[b, i, i]
        for k in range(d):
            for j in range(r):
                total = np.float64(signs[b, j]) if k == j else 0.0
                for i in range(r):
                    total += np.float64(h[b, k, i]) * m[b, i, j]
                q[b, k, j] = total


def _backward(
    h: np.ndarray, signs: np.ndarray, t_inverse: np.ndarray, m: np.ndarray, grad: np.ndarray, out: np.ndarray
) -> None:
    batch, d, r = h.shape
    grad_top, symmetric = np.empty((r, r)), np.empty((r, r))
    for b in range(batch):
        for j in range(r):
            for i in range(r):
                total = 0.0
                for k in range(d):
                    total += np.float64(h[b, k, i]) * grad[b, k, j]
                total *= signs[b, j]
                for k in range(i):
                    total -= t_inverse[b, k, i] * grad_top[k, j]
                grad_top[i, j] = total / t_inverse[b, i, i]
        for i in range(r):
            for j in range(i, r):
                total = 0.0
                for k in range(r):
                    total += grad_top[i, k] * signs[b, k] * m[b, j, k]
                symmetric[i, j] = total
                symmetric[j, i] = total
        for k in range(d):
            for i in range(r):
                total = -grad_top[i, k] if k < r else 0.0
                for j in range(r):
                    total += np.float64(grad[b, k, j]) * m[b, i, j] - h[b, k, j] * symmetric[j, i]
                out[b, k, i] = total
