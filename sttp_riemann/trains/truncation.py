"""Truncate the ranks of a layer by the singular values at its bonds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.trains.bonds import Resized, WholeChain, bond_roots, overlaps, whole_trains, with_identities
from sttp_riemann.trains.shape import LayerShape, Train, absorb


def truncate(chain: WholeChain, shape: LayerShape) -> Resized:
    """Cut every bond of a layer to the rank that it has in another shape.

    Parameters
    ----------
    chain : WholeChain
        Of the layer, at its present ranks.
    shape : LayerShape
        Of the same modes, with ranks that are nowhere larger.

    Returns
    -------
    Resized
        Where only the bond of the spectrum is cut, frames and values keep their columns, in their order.

    Notes
    -----
    Inner bonds are projected to their leading singular vectors, cores are made orthonormal by QR from the outer ends
    inwards, and W is projected to what they span. Each bond's cut is an orthogonal projection of W, so that the squared
    error is at most the sum of the squares of all singular values that are cut, as in TT-SVD (Oseledets 2011).
    """
    trains = whole_trains(shape)
    order = chain.values.abs().argsort(descending=True, stable=True)[: shape.rank]
    kept = order.sort().values
    cut = [
        _truncated(old, new, frames, chain.values, kept)
        for old, new, frames in zip(chain.trains, trains, chain.frames, strict=True)
    ]
    (left, turned_left), (right, turned_right) = cut
    maps = overlaps(chain.trains[0], left, chain.frames[0]), overlaps(chain.trains[1], right, chain.frames[1])
    values = chain.values[kept]
    if turned_left or turned_right:
        p, values, qh = torch.linalg.svd((maps[0][-1] * chain.values) @ maps[1][-1].mT)
        for frames, own, turn in ((left, maps[0], p), (right, maps[1], qh.mT)):
            frames[-1], own[-1] = frames[-1] @ turn, turn.mT @ own[-1]
    return with_identities(Resized(WholeChain(trains, (left, right), values), maps))


def _truncated(
    old: Train, new: Train, frames: Sequence[Tensor], values: Tensor, kept: Tensor
) -> tuple[list[Tensor], bool]:
    """Frames at the ranks of another train, and whether an inner bond was cut."""
    bases: list[Tensor | None] = [None] * len(frames)
    for k, root in enumerate(bond_roots(old, frames, values)):
        if new.cores[k].inner < old.cores[k].inner:
            bases[k] = torch.linalg.svd(root).U[:, : new.cores[k].inner]
    if all(basis is None for basis in bases):
        return [*frames[:-1], frames[-1][:, kept]], False
    found: list[Tensor] = []
    rest: Tensor | None = None
    for k, (core, frame) in enumerate(zip(old.cores, frames, strict=True)):
        # What the cores before left over, and the projection of their bond
        frame = frame if rest is None else absorb(rest.mT, frame, core.outer_first)
        basis = bases[k]
        if k == len(frames) - 1:
            frame = frame[:, kept]
        elif basis is not None:
            frame = frame @ basis
        q, r = torch.linalg.qr(frame)
        signs = torch.where(r.diagonal() < 0, -1.0, 1.0).to(r)
        found.append(q * signs)
        rest = signs.unsqueeze(1) * r if basis is None else signs.unsqueeze(1) * r @ basis.mT
    return found, True
