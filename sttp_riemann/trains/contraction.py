"""Contract tensor trains to orthonormal matrices, and pull gradients back to the cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sttp_riemann.trains.shape import Core, Train

Pull = Callable[[Tensor], Sequence[Tensor | None]]
"""From the gradient of a result to the gradients of its inputs."""
KEPT = 2**20
"""Bytes of partial products up to which the backward keeps them: more is cheaper to compute again than to hold."""


def contract(train: Train, cores: Sequence[Tensor], like: Tensor) -> Tensor:
    """Contract a batch of equal trains to orthonormal matrices.

    Parameters
    ----------
    train : Train
        Their common shape.
    cores : sequence of Tensor
        Matricized cores (L, rows_k, inner_k), from the outer end to the spectrum.
    like : Tensor
        Supplies dtype and device when the train has no cores.

    Returns
    -------
    Tensor
        (L, dim, rank), or (1, dim, rank) for a train without cores.

    Notes
    -----
    Outer cores first: the partial product then never has more columns than the largest rank, so that every step costs
    at most dim * r^2, and the last one is the largest.
    """
    if not cores:
        return torch.eye(train.dim, train.rank, dtype=like.dtype, device=like.device).unsqueeze(0)
    # Only the last is kept
    return deque(_products(train, cores), maxlen=1).pop()


def _products(train: Train, cores: Sequence[Tensor]) -> Iterator[Tensor]:
    """The train up to each of the given cores; the first product is the first core itself."""
    frame = cores[0]
    yield frame
    for core, matrix in zip(train.cores[1:], cores[1:], strict=False):
        frame = _extend(train, core, frame, matrix)
        yield frame


def _extend(train: Train, core: Core, frame: Tensor, matrix: Tensor) -> Tensor:
    """Contract the partial product of a train with the next core."""
    batch = matrix.shape[0]
    if train.side == "left":
        product = frame @ matrix.reshape(batch, core.outer, core.mode * core.inner)
    else:
        product = frame.unsqueeze(1) @ matrix.reshape(batch, core.mode, core.outer, core.inner)
    return product.reshape(batch, -1, core.inner)


def trace_contract(train: Train, cores: Sequence[Tensor], like: Tensor) -> tuple[Tensor, Pull]:
    """`contract` without autograd, together with its pullback.

    Parameters
    ----------
    train, cores, like
        As there.

    Returns
    -------
    frames : Tensor
        As there.
    pull : callable
        From the gradient of the frames to those of the cores.
    """
    if not cores:
        return contract(train, cores, like), lambda grad: ()
    *before, frames = _products(train, cores)
    size = sum(product.numel() * product.element_size() for product in before[1:])
    kept = before if size <= KEPT else None

    def pull(grad: Tensor) -> list[Tensor | None]:
        partial = list(_products(train, cores[:-1])) if kept is None else kept
        found: list[Tensor | None] = []
        for core, matrix, frame in zip(train.cores[:0:-1], cores[:0:-1], partial[::-1], strict=True):
            batch = len(matrix)
            if train.side == "left":
                flat = grad.reshape(batch, -1, core.mode * core.inner)
                found.append((frame.mT @ flat).view(matrix.shape))
                grad = flat @ matrix.reshape(batch, core.outer, -1).mT
            else:
                split = grad.reshape(batch, core.mode, -1, core.inner)
                found.append((frame.mT.unsqueeze(1) @ split).view(matrix.shape))
                grad = (split @ matrix.view(batch, core.mode, core.outer, core.inner).mT).sum(1)
        return [grad, *found[::-1]]

    return frames, pull
