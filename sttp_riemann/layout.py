"""Where each core of each layer stands: equal cores share a bank, equal trains are contracted together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sttp_riemann.tt import Core, LayerShape, Train


@dataclass(frozen=True)
class Group:
    """Equal trains of several layers; `layers` is in the order of the batch that they are contracted in."""

    train: Train
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Pairing:
    """Layers with equal trains on both sides: their rows in the left group's batch, and in the right group's."""

    left: int
    right: int
    left_rows: slice
    right_rows: slice


class Layout:
    """The arrangement of all cores of a model.

    Parameters
    ----------
    shapes : sequence of LayerShape
        One a layer.

    Attributes
    ----------
    order : tuple of int
        Layers in the order of the left groups' batches, one group after the other. Spectra are kept in it.
    groups : tuple of Group
        Left groups, then right groups. Layers that share both trains are neighbours in either.
    left_of, right_of : dict[int, tuple[int, int]]
        For each layer its group and its row there.
    pairing_of : dict[int, tuple[int, int]]
        For each layer its entry of `pairings` and its row there.
    """

    def __init__(self, shapes: Sequence[LayerShape]) -> None:
        lefts = {shape.left: None for shape in shapes}
        rights = {shape.right: None for shape in shapes}
        left_rank, right_rank = list(lefts), list(rights)
        layers = range(len(shapes))
        by_left = sorted(layers, key=lambda i: (left_rank.index(shapes[i].left), right_rank.index(shapes[i].right)))
        by_right = sorted(layers, key=lambda i: (right_rank.index(shapes[i].right), left_rank.index(shapes[i].left)))
        left = [Group(t, tuple(i for i in by_left if shapes[i].left == t)) for t in left_rank]
        right = [Group(t, tuple(i for i in by_right if shapes[i].right == t)) for t in right_rank]
        self.order = tuple(by_left)
        self.left_groups, self.right_groups = tuple(left), tuple(right)
        self.groups = self.left_groups + self.right_groups
        self.left_of = _rows(left, 0)
        self.right_of = _rows(right, len(left))
        self._pair(by_left)

    def _pair(self, order: Sequence[int]) -> None:
        members: dict[tuple[int, int], list[int]] = {}
        for i in order:
            members.setdefault((self.left_of[i][0], self.right_of[i][0]), []).append(i)
        self.pairings: list[Pairing] = []
        self.pairing_of: dict[int, tuple[int, int]] = {}
        for (left, right), layers in members.items():
            first_left, first_right = self.left_of[layers[0]][1], self.right_of[layers[0]][1]
            rows = slice(first_left, first_left + len(layers)), slice(first_right, first_right + len(layers))
            self.pairing_of.update({i: (len(self.pairings), row) for row, i in enumerate(layers)})
            self.pairings.append(Pairing(left, right, *rows))

    def blocks(self, key: Callable[[Core], str]) -> dict[str, list[tuple[int, int]]]:
        """For each bank, the (group, core) blocks of rows that it is made of."""
        found: dict[str, list[tuple[int, int]]] = {}
        for g, group in enumerate(self.groups):
            for c, core in enumerate(group.train.cores):
                found.setdefault(key(core), []).append((g, c))
        return found

    def first_rows(self, key: Callable[[Core], str]) -> dict[tuple[int, int], tuple[str, int]]:
        """For each (group, core) its bank, and the first of its rows there."""
        found = {}
        for name, at in self.blocks(key).items():
            first = 0
            for g, c in at:
                found[g, c] = name, first
                first += len(self.groups[g].layers)
        return found

    def pack(self, cores: Sequence[Sequence[Tensor]], key: Callable[[Core], str]) -> dict[str, Tensor]:
        """Gather the groups' cores into banks; the inverse of `unpack`."""
        return {name: torch.cat([cores[g][c] for g, c in at]) for name, at in self.blocks(key).items()}

    def unpack(self, banks: Mapping[str, Tensor], key: Callable[[Core], str]) -> list[list[Tensor]]:
        """Views of the banks' frames by group: for each core of its train a batch (layers, rows, inner)."""
        cores: list[list[Tensor]] = [[None] * len(g.train.cores) for g in self.groups]  # type: ignore[list-item]
        for name, at in self.blocks(key).items():
            views = banks[name].split([len(self.groups[g].layers) for g, _ in at])
            for (g, c), view in zip(at, views, strict=True):
                cores[g][c] = view
        return cores


def _rows(groups: Sequence[Group], first: int) -> dict[int, tuple[int, int]]:
    return {i: (first + g, row) for g, group in enumerate(groups) for row, i in enumerate(group.layers)}
