"""Which cores of which layers are computed together: equal cores in one call, equal trains in one contraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch

from sttp_riemann.frames import Frames
from sttp_riemann.trains.shape import Core, LayerShape, Train
from sttp_riemann.trains.spectrum import SpectrumKind

T = TypeVar("T")

LARGE = 2**16
"""Size from which a core gets its own operators: stacking would copy it."""


class Member(NamedTuple):
    """What a batch needs to know about a layer."""

    shape: LayerShape
    kind: type[Frames]
    spectrum: SpectrumKind
    bound: float
    dtype: torch.dtype
    weight_dtype: torch.dtype
    device: torch.device


class Slot(NamedTuple):
    """One core: member, side and place in its train."""

    member: int
    side: str
    place: int


@dataclass(frozen=True)
class Bank:
    """Equal cores, in the order of their batch."""

    core: Core
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Group:
    """Equal trains; `members` are in the order of their batch.

    `cores` gives the bank of each core's frames, and their first row; `spectrum` does so for the singular values of a
    left train, None if they are not trained.
    """

    train: Train
    members: tuple[int, ...]
    cores: tuple[tuple[int, int], ...]
    spectrum: tuple[int, int] | None


class Layout:
    """Arrangement of the cores of layers with equal kind of frame, dtypes and device.

    Parameters
    ----------
    members : sequence of Member
        The layers.

    Attributes
    ----------
    banks : list of Bank
        Every core of every layer once.
    spectra : list of tuple of int
        Members whose trained spectra have equal size and kind, in the order of the left groups.
    groups : list of Group
        Left trains, then right trains.
    shares, spectrum_shares : list of list of int
        For each bank, and for each of `spectra`, how many rows each group takes, in the order of the groups.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.kind = members[0].kind
        self.groups: list[Group] = []
        slots: dict[object, list[Slot]] = {}
        cores: list[Core] = []
        spectra: dict[object, list[int]] = {}
        for train, indices in (*self._equal_trains("left"), *self._equal_trains("right")):
            at = []
            for place, core in enumerate(train.cores):
                own = (len(self.groups), place) if self._apart(train) else None
                if (key := (self.kind.key(core), own)) not in slots:
                    cores.append(core)
                at.append(_append(slots, key, [Slot(i, train.side, place) for i in indices]))
            kind, values = members[indices[0]].spectrum, None
            if train.side == "left" and kind != "identity":
                values = _append(spectra, (train.rank, kind), indices)
            self.groups.append(Group(train, tuple(indices), tuple(at), values))
        self.banks = [Bank(core, tuple(own)) for core, own in zip(cores, slots.values(), strict=True)]
        self.spectra = [tuple(own) for own in spectra.values()]
        self.shares = [
            [len(group.members) for group in self.groups for at, _ in group.cores if at == bank]
            for bank in range(len(self.banks))
        ]
        self.spectrum_shares = [
            [len(group.members) for group in self.groups if group.spectrum is not None and group.spectrum[0] == line]
            for line in range(len(self.spectra))
        ]

    def _equal_trains(self, side: str) -> list[tuple[Train, list[int]]]:
        found: dict[tuple[Train, str], list[int]] = {}
        for i, member in enumerate(self.members):
            train, kind = (member.shape.left, member.spectrum) if side == "left" else (member.shape.right, "")
            found.setdefault((train, kind), []).append(i)
        return [
            (train, indices)
            for (train, _), own in found.items()
            for indices in ([[i] for i in own] if self._apart(train) else [own])
        ]

    def _apart(self, train: Train) -> bool:
        """Whether trains of this shape are computed layer by layer: large ones and those that need no computation."""
        nothing = self.kind.direct and train.side == "right" and len(train.cores) == 1
        return nothing or any(core.rows * core.inner >= LARGE for core in train.cores)


def _append(lists: dict[object, list[T]], key: object, items: Sequence[T]) -> tuple[int, int]:
    """Append to the list of this key; returns the index of that list, and of the first new item in it."""
    line = lists.setdefault(key, [])
    line.extend(items)
    return list(lists).index(key), len(line) - len(items)
