"""The weight of one layer from its cores, as it is commonly contracted: no batch, one layer at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.trains.shape import LayerShape, Train


def by_steps(shape: LayerShape, left: Sequence[Tensor], values: Tensor, right: Sequence[Tensor]) -> Tensor:
    """Contract each train from its outer end, an einsum a core, then U, s and V: the cheapest order there is.

    Parameters
    ----------
    shape : LayerShape
        Of the layer.
    left, right : sequence of Tensor
        Matricized cores (rows, inner), from the outer ends to the spectrum.
    values : Tensor
        (rank,) singular values.

    Returns
    -------
    Tensor
        W (d_out, d_in).
    """
    u, v = _frame(shape.left, left, values), _frame(shape.right, right, values)
    return torch.einsum("ik,k,jk->ij", u, values, v)


def by_one_einsum(shape: LayerShape, left: Sequence[Tensor], values: Tensor, right: Sequence[Tensor]) -> Tensor:
    """Contract all cores and the spectrum in one call, whose order torch chooses; parameters as of `by_steps`."""
    labels = itertools.count()
    bond = next(labels)
    left_operands, left_modes = _operands(shape.left, left, bond, labels, values)
    right_operands, right_modes = _operands(shape.right, right, bond, labels, values)
    # Towards the spectrum a left train's modes become less significant, a right train's more
    kept = [*reversed(left_modes), *right_modes]
    return torch.einsum(values, [bond], *left_operands, *right_operands, kept).reshape(shape.d_out, shape.d_in)


def _operands(
    train: Train, frames: Sequence[Tensor], bond: int, labels: Iterator[int], like: Tensor
) -> tuple[list[Any], list[int]]:
    """Cores of a train with their labels, from the spectrum to the outer end, and the labels of their modes."""
    operands: list[Any] = []
    modes = []
    for index in reversed(range(len(frames))):
        mode, outer = next(labels), next(labels)
        outwards = [outer, mode] if train.side == "left" else [mode, outer]
        modes.append(mode)
        operands += [_core(train, index, frames[index]), [*outwards, bond]] if index else [frames[0], [mode, bond]]
        bond = outer
    if not frames:
        modes.append(next(labels))
        operands += [_frame(train, frames, like), [modes[0], bond]]
    return operands, modes


def _frame(train: Train, frames: Sequence[Tensor], like: Tensor) -> Tensor:
    if not frames:
        return torch.eye(train.dim, train.rank, dtype=like.dtype, device=like.device)
    product = frames[0]
    for index in range(1, len(frames)):
        subscripts = "ia,amb->imb" if train.side == "left" else "ia,mab->mib"
        product = torch.einsum(subscripts, product, _core(train, index, frames[index]))
        product = product.reshape(-1, product.shape[-1])
    return product


def _core(train: Train, index: int, frame: Tensor) -> Tensor:
    core = train.cores[index]
    sizes = (core.outer, core.mode) if train.side == "left" else (core.mode, core.outer)
    return frame.view(*sizes, core.inner)
