"""Enlarge the ranks of a layer by directions in which a gradient is largest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.trains.bonds import Resized, WholeChain, overlaps, whole_trains, with_identities
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.shape import LayerShape, Train, absorb
from sttp_riemann.trains.svd import fold, leading_svd, unfold

TINY = 1e-12
"""Share of the largest singular value of a target below which a direction is none of it."""


def extend(chain: WholeChain, shape: LayerShape, gradient: Tensor, step: float = 0.0) -> Resized:
    """Enlarge every bond of a layer to the rank that it has in another shape.

    Parameters
    ----------
    chain : WholeChain
        Of the layer, at its present ranks.
    shape : LayerShape
        Of the same modes, with ranks that are nowhere smaller.
    gradient : Tensor
        (d_out, d_in), dL/dW in float64.
    step : float
        Size of new singular values, as a share of the largest. At 0 W stays the same.

    Returns
    -------
    Resized
        Old frames are a part of the new ones.

    Notes
    -----
    New singular vectors are the leading ones of (I - U U^T) G (I - V V^T). An inner bond takes in the leading
    directions of these and of the gradients of U and V, G V diag(s) and G^T U diag(s), outside of what its cores span.
    New pairs are turned so that G is diagonal in them. Where there are fewer directions than asked for, any
    orthonormal ones complete them.
    """
    trains, old = whole_trains(shape), chain.trains
    u, v = (_contracted(train, own) for train, own in zip(old, chain.frames, strict=True))
    count = shape.rank - len(chain.values)
    outside = outside_of(gradient, u, v)
    a, sizes, b = leading_svd(outside, count) if count else (u[:, :0], chain.values[:0], v[:, :0])
    targets = (a * sizes, gradient @ v * chain.values), (b * sizes, gradient.mT @ u * chain.values)
    left, right = (
        _extended(train, new, frames, *target)
        for train, new, frames, target in zip(old, trains, chain.frames, targets, strict=True)
    )
    if count:
        wide = [_contracted(train, own) for train, own in zip(trains, (left, right), strict=True)]
        p, _, qh = torch.linalg.svd(wide[0][:, -count:].mT @ gradient @ wide[1][:, -count:])
        left[-1][:, -count:], right[-1][:, -count:] = left[-1][:, -count:] @ p, right[-1][:, -count:] @ qh.mT
    maps = overlaps(old[0], left, chain.frames[0]), overlaps(old[1], right, chain.frames[1])
    # Against the gradient: u^T G v is positive in every new pair
    values = torch.cat([chain.values, (-step * chain.values.abs().max()).expand(count)])
    return with_identities(Resized(WholeChain(trains, (left, right), values), maps))


def _contracted(train: Train, frames: Sequence[Tensor]) -> Tensor:
    found: Tensor = contract(train, [frame.unsqueeze(0) for frame in frames], frames[0])[0]
    return found


def outside_of(gradient: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Part of a matrix that has neither columns in the span of U nor rows in that of V.

    Parameters
    ----------
    gradient : Tensor
        (d_out, d_in).
    u, v : Tensor
        (d_out, r) and (d_in, r), orthonormal columns.

    Returns
    -------
    Tensor
        (d_out, d_in).
    """
    rest = gradient - u @ (u.mT @ gradient)
    return rest - (rest @ v) @ v.mT


def _extended(old: Train, new: Train, frames: Sequence[Tensor], pairs: Tensor, more: Tensor) -> list[Tensor]:
    """Frames at the ranks of another train: the old ones with zeros, and columns that span most of a target.

    Inner bonds take in both targets, (dim, q) and (dim, m); the bond of the spectrum the first one.
    """
    found: list[Tensor] = []
    rest, inner = torch.cat([pairs, more], 1), frames[0].new_ones(1, 1)
    for k, (before, core, frame) in enumerate(zip(old.cores, new.cores, frames, strict=True)):
        kept = absorb(inner.mT, frame, before.outer_first)
        last = k == len(frames) - 1
        target, columns = unfold(new, core, rest), rest.shape[1]
        grown = torch.cat([kept, _more(kept, target[:, : pairs.shape[1]] if last else target, core.inner)], 1)
        found.append(grown)
        if not last:
            rest = fold(new, core.inner, grown.mT @ target, columns)
        inner = torch.eye(core.inner, before.inner, dtype=frame.dtype, device=frame.device)
    return found


def _more(kept: Tensor, target: Tensor, columns: int) -> Tensor:
    """Orthonormal columns beside `kept`, so that there are so many together: the leading directions of a target."""
    rows, own = kept.shape
    count = columns - own
    if not count:
        return kept[:, :0]
    outside = target - kept @ (kept.mT @ target)
    u, s, _ = torch.linalg.svd(outside, full_matrices=False)
    u = u[:, (s > TINY * target.norm()) & (torch.arange(len(s), device=s.device) < count)]
    start = torch.randn(rows, count - u.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # once would lose digits
        basis = torch.cat([kept, u, start.to(kept)], 1)
        q = torch.linalg.qr(basis).Q[:, own:]
        u, start = q - kept @ (kept.mT @ q), start[:, :0]
    return torch.linalg.qr(u).Q
