"""Scratch memory in which frames are gathered and stepped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import geoopt
import torch
from torch import Tensor

from sttp_riemann.frames import PolarStiefel
from sttp_riemann.trains.memory import side_by_side

CACHED = 2**19
"""Largest total size of frames that are stepped together."""
KEPT = 2**16
"""Largest memory that is kept from step to step: the backward between them needs what is larger itself."""


class Room(NamedTuple):
    """Memory as large as some frames, with three views: as filled, as matrices (B, n, r), and frame by frame."""

    flat: Tensor
    whole: Tensor
    rows: list[Tensor]


class Rooms:
    """Rooms by number: those of equal number share memory, so that one is in use at a time.

    Larger memory lasts for a step: new pages for every intermediate result would cost as much time as a product.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}
        self._rooms: dict[tuple[int, int, torch.Size, torch.dtype, torch.device], Room] = {}

    def get(self, number: int, count: int, like: Tensor) -> Room:
        """Room for so many frames of the shape of a given one."""
        shape = like.shape
        key = number, count, shape, like.dtype, like.device
        if key not in self._rooms:
            memory, size = (number, like.dtype, like.device), count * shape.numel()
            if memory not in self._memory or self._memory[memory].numel() < size:
                self._forget(memory)
                self._memory[memory] = torch.empty(size, dtype=like.dtype, device=like.device)
            rows = self._memory[memory][:size].view(count, *shape)
            self._rooms[key] = Room(rows.view(-1, *shape[1:]), rows.view(-1, *shape[-2:]), list(rows.unbind()))
        return self._rooms[key]

    def end_step(self) -> None:
        """Give back what is not kept."""
        for memory in [key for key, own in self._memory.items() if own.numel() > KEPT]:
            self._forget(memory)

    def _forget(self, memory: tuple[int, torch.dtype, torch.device]) -> None:
        self._memory.pop(memory, None)
        for key in [key for key in self._rooms if (key[0], *key[3:]) == memory]:
            del self._rooms[key]


def gather(tensors: Sequence[Tensor], kind: type, room: Room | None = None) -> tuple[Tensor, bool]:
    """Matrices or batches of matrices as (B, n, r), and whether that is a copy or the tensor that they are views of."""
    first = tensors[0].detach()
    if not issubclass(kind, PolarStiefel):
        return first, False
    whole = side_by_side(tensors)
    copied = whole is None
    if whole is None:
        # Concatenated along the first dimension: `stack` would first make a view of each
        whole = torch.cat(tensors, out=room and room.flat)  # type: ignore[arg-type]
    return whole.view(-1, *first.shape[-2:]), copied


def rows_of(whole: Tensor, points: Sequence[geoopt.ManifoldParameter]) -> Sequence[Tensor]:
    """Undo `gather`; if each matrix became one number, so does each row."""
    if not isinstance(points[0].manifold, PolarStiefel):
        return [whole]
    return whole.view(len(points), *points[0].shape[:-2], *whole.shape[-2:]).unbind()
