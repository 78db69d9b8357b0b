"""Rows that lead a frame of St_U: any of them may, and well chosen ones keep its chart away from where it folds."""

from __future__ import annotations

import torch
from torch import Tensor

TIE = 1e-4
"""Share of a squared norm within which the first of several rows is taken, so that rounding does not choose."""


def leading_rows(frames: Tensor) -> Tensor:
    """Order the rows of frames so that the leading block is well conditioned.

    Parameters
    ----------
    frames : Tensor
        (B, rows, rank), orthonormal columns.

    Returns
    -------
    Tensor
        (B, rows), int64: a permutation each, the leading rows first, the others ascending.

    Notes
    -----
    QR with column pivoting of X^T (Businger and Golub 1965): each row is the one farthest from the span of those before
    it. It depends on X X^T only, so it is the same in every gauge.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.pivots import leading_rows
    >>> leading_rows(torch.tensor([[[0.0, 0.0], [0.6, 0.0], [0.0, 1.0], [0.8, 0.0]]])).tolist()
    [[2, 3, 0, 1]]
    """
    batch, rows, rank = frames.shape
    member = torch.arange(batch, device=frames.device)
    key = torch.arange(rank, rank + rows, device=frames.device).repeat(batch, 1)
    left = frames.square().sum(-1)  # of each row, squared length of what those before it do not span
    basis = frames.new_zeros(batch, rank, rank)
    for place in range(rank):
        free = left.masked_fill(key < rank, -1)
        pick = (free >= free.amax(1, keepdim=True) * (1 - TIE)).int().argmax(1)
        row = frames[member, pick].unsqueeze(-1)
        for _ in range(2):  # once would lose digits
            row = torch.nn.functional.normalize(row - basis.mT @ (basis @ row), dim=1)
        basis[:, place] = row.squeeze(-1)
        left -= (frames @ row).squeeze(-1).square()
        key[member, pick] = place
    return key.argsort(1)


def leading_block(frames: Tensor, order: Tensor) -> Tensor:
    """The rows that lead.

    Parameters
    ----------
    frames : Tensor
        (B, rows, rank).
    order : Tensor
        (B, rows), as `leading_rows` gives it.

    Returns
    -------
    Tensor
        (B, rank, rank).
    """
    return frames.gather(1, _leading(frames, order))


def set_leading_block_(frames: Tensor, order: Tensor, block: Tensor) -> None:
    """Write to the rows that lead, in place.

    Parameters
    ----------
    frames : Tensor
        (B, rows, rank).
    order : Tensor
        (B, rows), as `leading_rows` gives it.
    block : Tensor
        (B, rank, rank).
    """
    frames.scatter_(1, _leading(frames, order), block)


def _leading(frames: Tensor, order: Tensor) -> Tensor:
    rank = frames.shape[-1]
    return order[:, :rank].unsqueeze(-1).expand(-1, -1, rank)


def margins(blocks: Tensor) -> Tensor:
    """Smallest singular value of each leading block: how far the chart is from where it folds.

    Parameters
    ----------
    blocks : Tensor
        (B, rank, rank).

    Returns
    -------
    Tensor
        (B,), from 0 to 1; NaN of a block that holds values that are not finite.
    """
    finite = blocks.isfinite().all(-1).all(-1)
    smallest = torch.linalg.svdvals(blocks.where(finite[:, None, None], 0))[:, -1]
    return smallest.where(finite, torch.nan)
