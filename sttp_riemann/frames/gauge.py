"""Gauge fixing: one sweep from each end of a chain towards the spectrum, batched over equal trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.layout import Layout
from sttp_riemann.tt import Train, absorb


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
    >>> from sttp_riemann.frames.gauge import triangularizing_rotation
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


@torch.no_grad()
def fix_gauge(
    layout: Layout, cores: Sequence[Sequence[Tensor]], companions: Sequence[Sequence[Sequence[Tensor]]]
) -> None:
    """Fix the gauge of all layers: a sweep from either end of every chain, leaving every weight as it is.

    Parameters
    ----------
    layout : Layout
        Which layers share which trains.
    cores : sequence of sequence of Tensor
        For each group of the layout, its cores as `sweep` takes them; changed in place.
    companions : sequence of sequence of sequence of Tensor
        For each core, the tensors that move along; changed in place.

    Notes
    -----
    St_U is the set of frames that Obukhov et al. 2021 describe. With an identity spectrum the sweep from the left
    passes through to V: W = U V^T = (U Q) (V Q)^T.
    """
    passed: dict[int, Tensor] = {}
    for group, own, others in zip(layout.groups, cores, companions, strict=True):
        if group.train.side == "right":
            _receive([passed.get(layer) for layer in group.layers], own[-1], others[-1])
        move = sweep(group.train, own, others)
        if move is not None:
            passed.update(zip(group.layers, move, strict=True))


def _receive(moves: Sequence[Tensor | None], core: Tensor, companions: Sequence[Tensor]) -> None:
    """Take over what an identity spectrum lets through: W = U V^T = (U Q) (V Q)^T."""
    if all(move is None for move in moves):
        return
    eye = torch.eye(core.shape[-1], dtype=core.dtype, device=core.device)
    rotation = torch.stack([eye if move is None else move for move in moves])
    for tensor in (core, *companions):
        tensor.copy_(tensor.to(core.dtype) @ rotation)
