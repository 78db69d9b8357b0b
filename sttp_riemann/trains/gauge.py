"""Gauge fixing: one sweep from each end of a chain towards the spectrum, batched over equal trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sttp_riemann.trains.shape import LayerShape, Train, absorb


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


def sweep(train: Train, cores: Sequence[Tensor], companions: Sequence[Sequence[Tensor]]) -> Tensor | None:
    """Bring every core that belongs there into St_U, in place, without changing what the train contracts to.

    Parameters
    ----------
    train : Train
        Shape of the trains.
    cores : sequence of Tensor
        Matricized cores (L, rows_k, inner_k), from the outer end to the spectrum; changed in place.
    companions : sequence of sequence of Tensor
        For each core, tensors of its shape that move along (an optimizer's momentum); changed in place.

    Returns
    -------
    Tensor or None
        The last rotation (L, rank, rank) where the last core is in St_U, too, and so passes its gauge through the
        spectrum: the train now contracts to its old value times this rotation. None if nothing is passed on.

    Notes
    -----
    Each core takes over the transpose of the rotation before it, is turned so that its leading block is upper
    triangular, and passes that rotation on. Rotations are isometries of the Stiefel manifold, so momentum that is
    turned with them stays tangent.
    """
    move: Tensor | None = None
    for core, matrix, others in zip(train.cores, cores, companions, strict=True):
        # A momentum kept in lower precision is moved in the frames' own.
        moved = [matrix, *(other.to(matrix.dtype) for other in others)]
        if move is not None:
            moved = [absorb(train, core, move, m) for m in moved]
            move = None
        if core.reduced:
            move = triangularizing_rotation(moved[0][:, : core.inner])
            moved = [m @ move for m in moved]
            moved[0][:, : core.inner].triu_()
        for target, value in zip((matrix, *others), moved, strict=True):
            target.copy_(value)
    return move


@dataclass
class Chain:
    """The cores of one layer, each with what moves along.

    Attributes
    ----------
    shape : LayerShape
        Of the layer.
    left, right : list of list of Tensor
        For each core, from the outer end to the spectrum, its frame (rows, inner) and tensors of that shape.
    """

    shape: LayerShape
    left: list[list[Tensor]]
    right: list[list[Tensor]]


@torch.no_grad()
def fix_gauge(chains: Sequence[Chain]) -> None:
    """Fix the gauge of layers in place: a sweep from either end of every chain, leaving every weight as it is.

    Parameters
    ----------
    chains : sequence of Chain
        Their tensors are changed.

    Notes
    -----
    St_U is the set of frames that Obukhov et al. 2021 describe. With an identity spectrum the sweep from the left
    passes through to V: W = U V^T = (U Q) (V Q)^T. Equal trains are swept in one batch.
    """
    passed: dict[int, Tensor] = {}
    for side in ("left", "right"):
        for train, members in _equal(chains, side).items():
            own = [getattr(chains[i], side) for i in members]
            stacks = [[torch.stack(list(t)) for t in zip(*core, strict=True)] for core in zip(*own, strict=True)]
            if side == "right":
                _receive([passed.get(i) for i in members], stacks[-1])
            move = sweep(train[0], [core[0] for core in stacks], [core[1:] for core in stacks])
            if move is not None:
                passed.update(zip(members, move, strict=True))
            for core, stack in zip(zip(*own, strict=True), stacks, strict=True):
                for targets, values in zip(zip(*core, strict=True), stack, strict=True):
                    torch._foreach_copy_(list(targets), list(values.unbind()))


def _equal(chains: Sequence[Chain], side: str) -> dict[tuple[Train, object], list[int]]:
    """Chains by the train on one side, and by what moves along there."""
    found: dict[tuple[Train, object], list[int]] = {}
    for i, chain in enumerate(chains):
        tensors = [[(t.dtype, t.device) for t in core] for core in getattr(chain, side)]
        # Without cores there is nothing to sweep, and nothing passes: no reduced core is last
        if tensors:
            found.setdefault((getattr(chain.shape, side), str(tensors)), []).append(i)
    return found


def _receive(moves: Sequence[Tensor | None], core: Sequence[Tensor]) -> None:
    """Take over what an identity spectrum lets through: W = U V^T = (U Q) (V Q)^T."""
    if all(move is None for move in moves):
        return
    eye = torch.eye(core[0].shape[-1], dtype=core[0].dtype, device=core[0].device)
    rotation = torch.stack([eye if move is None else move for move in moves])
    for tensor in core:
        tensor.copy_(tensor.to(rotation.dtype) @ rotation)
