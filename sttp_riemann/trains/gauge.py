"""Gauge fixing: one sweep from each end of a chain towards the spectrum, batched over equal trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from sttp_riemann.trains.pivots import leading_block, leading_rows, margins, set_leading_block_
from sttp_riemann.trains.shape import Core, LayerShape, Train, absorb

SIDES = ("left", "right")
GAIN = 2.0
"""Factor by which other rows must improve the margin to take the lead."""


def triangularizing_rotation(block: Tensor) -> Tensor:
    """Orthogonal Q with ``block @ Q`` upper triangular and its diagonal non-negative.

    Parameters
    ----------
    block : Tensor
        (..., r, r).

    Returns
    -------
    Tensor
        (..., r, r); unique where the block is non-singular.

    Notes
    -----
    RQ factorization by QR of the block reversed in both indices.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.gauge import triangularizing_rotation
    >>> block = torch.randn(3, 3, dtype=torch.float64)
    >>> turned = block @ triangularizing_rotation(block)
    >>> torch.allclose(turned.tril(-1), torch.zeros(3, 3, dtype=torch.float64)), bool((turned.diagonal() >= 0).all())
    (True, True)
    """
    q, r = torch.linalg.qr(block.mT.flip(-2, -1))
    sign = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(block.dtype)
    return (q * sign.unsqueeze(-2)).flip(-2, -1)


@dataclass
class Turns:
    """How a sweep chooses the leading rows of equal trains, and which cores it has changed.

    Attributes
    ----------
    orders : list of Tensor
        For each core (L, rows), rows in the order that `leading_rows` gives; changed in place.
    margin : float or None
        Other rows take the lead, and cores rotate, only where the margin is below this and theirs is clearly larger;
        None: rows stay, and all cores rotate.
    turned : list of Tensor
        For each core (L,), bool: whether it has changed.
    """

    orders: list[Tensor]
    margin: float | None
    turned: list[Tensor]


class Rotations(NamedTuple):
    """What the rank indices of a core were turned by: the core became ``outer^T core inner``.

    Attributes
    ----------
    outer, inner : Tensor or None
        (..., rank, rank); None where the index was left alone.
    """

    outer: Tensor | None
    inner: Tensor | None


def sweep(
    train: Train, cores: Sequence[Tensor], companions: Sequence[Sequence[Tensor]], turns: Turns | None = None
) -> list[Rotations]:
    """Bring every reduced core into St_U, in place, without changing what the train contracts to.

    Parameters
    ----------
    train : Train
        Shape of the trains.
    cores : sequence of Tensor
        Matricized cores (L, rows_k, inner_k), from the outer end to the spectrum; changed in place.
    companions : sequence of sequence of Tensor
        For each core, tensors of its shape that move along (an optimizer's momentum); changed in place.
    turns : Turns, optional
        Which rows lead; the first ones by default.

    Returns
    -------
    list of Rotations
        For each core, batched as the cores are. Where the last core is in St_U, too, it passes its gauge through the
        spectrum: the train now contracts to its old value times its last inner rotation.

    Notes
    -----
    Each core absorbs the transpose of the rotation before it, is rotated so that its leading block is upper triangular,
    and passes that rotation on. Rotations are isometries of the Stiefel manifold, so momentum rotated along stays
    tangent.
    """
    move: Tensor | None = None
    found = []
    for k, (core, matrix, others) in enumerate(zip(train.cores, cores, companions, strict=True)):
        # A momentum kept in lower precision is moved in the frames' own.
        moved = [matrix, *(other.to(matrix.dtype) for other in others)]
        outer, move = move, None
        if outer is not None:
            moved = [absorb(outer, m, core.outer_first) for m in moved]
            if turns is not None:
                turns.turned[k] |= turns.turned[k - 1]
        if core.reduced:
            if turns is None:
                move = triangularizing_rotation(moved[0][:, : core.inner])
            else:
                move = _pivoted_rotation(moved[0], turns, k)
            moved = [m @ move for m in moved]
            if turns is None:
                moved[0][:, : core.inner].triu_()
            else:
                set_leading_block_(moved[0], turns.orders[k], leading_block(moved[0], turns.orders[k]).triu_())
        for target, value in zip((matrix, *others), moved, strict=True):
            target.copy_(value)
        found.append(Rotations(outer, move))
    return found


def _pivoted_rotation(matrix: Tensor, turns: Turns, k: int) -> Tensor:
    """Choose leading rows where asked; give the rotation of each core, the identity where it stays."""
    order, turned = turns.orders[k], turns.turned[k]
    if turns.margin is None:
        turned.fill_(True)
    else:
        now = margins(leading_block(matrix, order))
        low = (now < turns.margin).nonzero().squeeze(1)
        others = leading_rows(matrix[low])
        better = margins(leading_block(matrix[low], others)) > GAIN * now[low]
        better |= turns.margin == torch.inf
        order[low[better]], turned[low[better]] = others[better], True
    rotation = triangularizing_rotation(leading_block(matrix, order))
    eye = torch.eye(rotation.shape[-1], dtype=rotation.dtype, device=rotation.device)
    return torch.where(turned[:, None, None], rotation, eye)


@dataclass
class Chain:
    """The cores of one layer, each with the tensors that move along.

    Attributes
    ----------
    shape : LayerShape
        Shape of the layer.
    left, right : list of list of Tensor
        For each core, from the outer end to the spectrum, its frame (rows, inner) and tensors of that shape.
    orders : tuple of list of Tensor, optional
        For the cores left and right, the order in which rows lead (rows,); by default the first ones do.
    margin : float or None
        With `orders`: see `Turns`.
    turned : tuple of list of bool
        With `orders`: whether the cores left and right have changed; `fix_gauge` says so here.
    rotations : tuple of list of Rotations
        What the rank indices of the cores left and right were turned by; `fix_gauge` says so here.
    """

    shape: LayerShape
    left: list[list[Tensor]]
    right: list[list[Tensor]]
    orders: tuple[list[Tensor], list[Tensor]] | None = None
    margin: float | None = None
    turned: tuple[list[bool], list[bool]] = field(default_factory=lambda: ([], []))
    rotations: tuple[list[Rotations], list[Rotations]] = field(default_factory=lambda: ([], []))


@torch.no_grad()
def fix_gauge(chains: Sequence[Chain]) -> None:
    """Fix the gauge of layers in place: a sweep from either end of every chain, leaving every weight as it is.

    Parameters
    ----------
    chains : sequence of Chain
        Changed in place.

    Notes
    -----
    St_U is the set of frames that Obukhov et al. 2021 describe. With an identity spectrum the sweep from the left
    passes through to V: W = U V^T = (U Q) (V Q)^T. Equal trains are swept in one batch.
    """
    passed: dict[int, Tensor] = {}
    for number, side in enumerate(SIDES):
        for train, members in _equal(chains, side).items():
            own = [getattr(chains[i], side) for i in members]
            stacks = [[torch.stack(list(t)) for t in zip(*core, strict=True)] for core in zip(*own, strict=True)]
            turns = _turns([chains[i] for i in members], number, stacks)
            if side == "right":
                received = _receive([passed.get(i) for i in members], stacks[-1])
                if turns is not None:
                    turns.turned[-1] |= turns.turned[-1].new_tensor(received)
            made = sweep(train[0], [core[0] for core in stacks], [core[1:] for core in stacks], turns)
            rotations = [_unbound(r, len(members)) for r in made]
            for place, i in enumerate(members):
                found = [own_rotations[place] for own_rotations in rotations]
                last = found[-1].inner
                if side == "right":
                    found[-1] = found[-1]._replace(inner=passed.get(i))
                elif last is not None and (turns is None or turns.turned[-1][place]):
                    passed[i] = last
                chains[i].rotations[number].extend(found)
            for core, stack in zip(zip(*own, strict=True), stacks, strict=True):
                for targets, values in zip(zip(*core, strict=True), stack, strict=True):
                    torch._foreach_copy_(list(targets), list(values.unbind()))
            if turns is not None:
                _tell([chains[i] for i in members], number, turns)


def _equal(chains: Sequence[Chain], side: str) -> dict[tuple[Train, object], list[int]]:
    """Group chains by their train on one side and the tensors that move along."""
    found: dict[tuple[Train, object], list[int]] = {}
    for i, chain in enumerate(chains):
        tensors = [[(t.dtype, t.device) for t in core] for core in getattr(chain, side)]
        # Without cores there is nothing to sweep, and nothing passes: no reduced core is last
        if tensors:
            key = f"{tensors} {chain.orders is None} {chain.margin}"
            found.setdefault((getattr(chain.shape, side), key), []).append(i)
    return found


def _unbound(made: Rotations, count: int) -> list[Rotations]:
    """Rotations of each train, from those of a batch of them."""
    outer, inner = ([None] * count if move is None else list(move.unbind()) for move in made)
    return [Rotations(*pair) for pair in zip(outer, inner, strict=True)]


def _turns(chains: Sequence[Chain], side: int, stacks: Sequence[Sequence[Tensor]]) -> Turns | None:
    pairs = [chain.orders for chain in chains if chain.orders is not None]
    if not pairs:
        return None
    orders = [torch.stack(core) for core in zip(*(pair[side] for pair in pairs), strict=True)]
    none = torch.zeros(len(chains), dtype=torch.bool, device=stacks[0][0].device)
    return Turns(orders, chains[0].margin, [none.clone() for _ in stacks])


def _tell(chains: Sequence[Chain], side: int, turns: Turns) -> None:
    for order, turned, k in zip(turns.orders, turns.turned, range(len(turns.orders)), strict=True):
        for chain, own, flag in zip(chains, order, turned.tolist(), strict=True):
            assert chain.orders is not None
            chain.orders[side][k].copy_(own)
            chain.turned[side].append(flag)


def _receive(moves: Sequence[Tensor | None], core: Sequence[Tensor]) -> list[bool]:
    """Absorb the rotations that an identity spectrum passes on: W = U V^T = (U Q) (V Q)^T; give which cores did."""
    if any(move is not None for move in moves):
        eye = torch.eye(core[0].shape[-1], dtype=core[0].dtype, device=core[0].device)
        rotation = torch.stack([eye if move is None else move for move in moves])
        for tensor in core:
            tensor.copy_(tensor.to(rotation.dtype) @ rotation)
    return [move is not None for move in moves]


def first_rows(cores: Sequence[Core], device: torch.device) -> list[Tensor]:
    """Orders in which the first rows of each core lead.

    Parameters
    ----------
    cores : sequence of Core
        Shapes.
    device : torch.device
        Where they are wanted.

    Returns
    -------
    list of Tensor
        (rows,) each.
    """
    return [torch.arange(core.rows, device=device) for core in cores]
