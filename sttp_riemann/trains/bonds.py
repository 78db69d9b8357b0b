"""Every bond of a chain: the cores that a layer leaves out, singular values at each bond, and changes of ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sttp_riemann.trains.shape import Core, LayerShape, Train, absorb


@dataclass
class WholeChain:
    """The frames of one layer around its singular values, with the cores that are the identity.

    Attributes
    ----------
    trains : tuple of Train
        Left and right, with one core for every mode.
    frames : tuple of list of Tensor
        For each side (rows, inner) by core, from the outer end to the spectrum.
    values : Tensor
        (rank,), the singular values up to sign and order.
    """

    trains: tuple[Train, Train]
    frames: tuple[list[Tensor], list[Tensor]]
    values: Tensor


@dataclass
class Resized:
    """A chain at other ranks, and how its rank indices follow from those before.

    Attributes
    ----------
    chain : WholeChain
        The new one; the outer cores that its layer leaves out are the identity.
    maps : tuple of list of Tensor
        For each side by core (new inner, old inner): the overlap of what the cores up to there span now and before.
    """

    chain: WholeChain
    maps: tuple[list[Tensor], list[Tensor]]


def whole_trains(shape: LayerShape) -> tuple[Train, Train]:
    """Trains of a layer with the cores that are left out of it, because they are the identity.

    Parameters
    ----------
    shape : LayerShape
        Of the layer.

    Returns
    -------
    tuple of Train
        Left and right, with one core for every mode.

    Examples
    --------
    >>> from sttp_riemann.trains.shape import layer_shape
    >>> from sttp_riemann.trains.bonds import whole_trains
    >>> shape = layer_shape(8, (4, 3, 3), rank=6)
    >>> [len(train.cores) for train in (shape.left, shape.right)], [len(t.cores) for t in whole_trains(shape)]
    ([1, 3], [3, 3])
    """
    products = itertools.accumulate(shape.modes, lambda a, b: a * b)
    cut = next(k for k, product in enumerate(products, 1) if product == shape.d_out)
    ranks, modes = shape.ranks, shape.modes
    left = tuple(Core(ranks[k], modes[k], ranks[k + 1], k != cut - 1) for k in range(cut))
    right = tuple(Core(ranks[k + 1], modes[k], ranks[k], k != cut, False) for k in range(len(modes) - 1, cut - 1, -1))
    return Train("left", shape.d_out, shape.rank, left), Train("right", shape.d_in, shape.rank, right)


def left_out(core: Core) -> bool:
    """Whether a layer leaves out a core, because it is the identity."""
    return core.reduced and core.rows == core.inner


def whole_chain(shape: LayerShape, left: Sequence[Tensor], values: Tensor, right: Sequence[Tensor]) -> WholeChain:
    """Put the identities that a layer leaves out before its frames.

    Parameters
    ----------
    shape : LayerShape
        Of the layer.
    left, right : sequence of Tensor
        Its frames, from the outer end to the spectrum.
    values : Tensor
        (rank,), its singular values.

    Returns
    -------
    WholeChain
    """
    trains = whole_trains(shape)
    frames = tuple(
        [torch.eye(core.rows, dtype=values.dtype, device=values.device) for core in train.cores[: -len(own)]] + [*own]
        for train, own in zip(trains, (left, right), strict=True)
    )
    return WholeChain(trains, frames, values)  # type: ignore[arg-type]


def bond_roots(train: Train, frames: Sequence[Tensor], values: Tensor) -> list[Tensor]:
    """Square roots of the Gram matrices over the inner bonds of a train of W.

    Parameters
    ----------
    train : Train
        With every core.
    frames : sequence of Tensor
        Its frames.
    values : Tensor
        (rank,), the singular values of W.

    Returns
    -------
    list of Tensor
        For each core but the last (inner, m): its left singular vectors and its singular values are those of W
        unfolded at the core's inner bond, the vectors in the basis of that bond.

    Notes
    -----
    W is in mixed canonical form with its centre at the spectrum (Schollwoeck 2011), so one QR a core suffices, from the
    spectrum outwards. Gram matrices themselves would lose half of the digits.
    """
    root, found = torch.diag(values), []
    for core, frame in zip(train.cores[:0:-1], frames[:0:-1], strict=True):
        wide = frame @ root
        if core.outer_first:
            unfolded = wide.reshape(core.outer, -1)
        else:
            unfolded = wide.reshape(core.mode, core.outer, -1).transpose(0, 1).reshape(core.outer, -1)
        root = torch.linalg.qr(unfolded.mT, mode="r").R.mT
        found.append(root)
    return found[::-1]


def lost_energies(chain: WholeChain) -> Tensor:
    """Share of the squared Frobenius norm of W that truncation to each rank takes away at most.

    Parameters
    ----------
    chain : WholeChain
        Of a layer.

    Returns
    -------
    Tensor
        (R,), R the rank of the widest bond: entry r - 1 is the sum of the squared singular values beyond the r-th, over
        all bonds, as a share of that of all values at one; 0 at the last. Zeros for W = 0.

    Notes
    -----
    Oseledets 2011, Theorem 2.2: the squared error of the truncation is at most that.
    """
    spectra = [chain.values.abs().sort(descending=True).values]
    for train, frames in zip(chain.trains, chain.frames, strict=True):
        spectra += [torch.linalg.svdvals(root) for root in bond_roots(train, frames, chain.values)]
    widest = max(len(values) for values in spectra)
    lost = chain.values.new_zeros(widest)
    for values in spectra:
        tails = values.square().flip(0).cumsum(0).flip(0)[1:]
        lost[: len(tails)] += tails
    total = chain.values.square().sum()
    return lost / total if float(total) else torch.zeros_like(lost)


def overlaps(train: Train, frames: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """What the cores up to each bond span now, times what they did before.

    Parameters
    ----------
    train : Train
        With every core, at the old ranks.
    frames, old : sequence of Tensor
        New and old frames of equal modes.

    Returns
    -------
    list of Tensor
        For each core (new inner, old inner).
    """
    move, found = old[0].new_ones(1, 1), []
    for core, new, before in zip(train.cores, frames, old, strict=True):
        move = new.mT @ absorb(move.mT, before, core.outer_first)
        found.append(move)
    return found


def with_identities(resized: Resized) -> Resized:
    """Turn the outer cores that a layer leaves out into the identity, by gauge moves.

    Parameters
    ----------
    resized : Resized
        W of its chain stays the same.

    Returns
    -------
    Resized
    """
    for train, frames, maps in zip(resized.chain.trains, resized.chain.frames, resized.maps, strict=True):
        for k, core in enumerate(train.cores):
            if left_out(core):
                turn = frames[k]
                frames[k] = torch.eye(core.rows, dtype=turn.dtype, device=turn.device)
                frames[k + 1] = absorb(turn.mT, frames[k + 1], train.cores[k + 1].outer_first)
                maps[k] = turn @ maps[k]
    return resized


def widest(shape: LayerShape) -> int:
    """Rank of the widest bond: `layer_shape` gives the same shape at it."""
    return max(shape.ranks)
