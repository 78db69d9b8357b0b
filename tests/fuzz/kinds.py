"""Kinds of arguments, and what is foreign to all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.fuzz.world import NUMPY, World, generator

Make = Callable[[World], Any]
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Kind:
    """Values of one kind of argument, by a name for the report.

    `good` ones are accepted wherever the kind is asked for, the first together with every other first; `bad` ones are
    refused.
    """

    good: dict[str, Make]
    bad: dict[str, Make]


def same(*values: Any) -> dict[str, Make]:
    """Values that do not depend on the world."""
    return {_label(value): (lambda world, value=value: value) for value in values}


def _label(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}" if not isinstance(value, int) or abs(value) < 10**20 else "huge int"
    return text[:60]


class Hostile:
    """Compares to nothing, and is neither true nor false."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __bool__(self) -> bool:
        raise RuntimeError("asked for its truth")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("printed")


TENSORS: dict[str, Make] = {
    "tensor of one": lambda w: torch.tensor(0.5),
    "tensor of two": lambda w: torch.tensor([0.5, 0.5]),
    "empty tensor": lambda w: torch.zeros(0),
    "whole tensor": lambda w: torch.ones(4, 6, dtype=torch.int64),
    "complex tensor": lambda w: torch.ones(4, 6, dtype=torch.complex64),
    "bool tensor": lambda w: torch.ones(4, 6, dtype=torch.bool),
    "half tensor": lambda w: torch.ones(4, 6, dtype=torch.float16),
    "meta tensor": lambda w: torch.ones(4, 6, device="meta"),
    "sparse tensor": lambda w: torch.eye(4, 6).to_sparse(),
    "nan tensor": lambda w: torch.full((4, 6), NAN),
    "infinite tensor": lambda w: torch.full((4, 6), INF),
    "huge tensor": lambda w: torch.full((4, 6), 1e300, dtype=torch.float64),
    "turned tensor": lambda w: torch.ones(6, 4),
    "deep tensor": lambda w: torch.ones(1, 2, 3, 4, 5),
    "right tensor": lambda w: torch.ones(4, 6),
    "non-leaf": lambda w: torch.ones(4, 6, requires_grad=True) * 2,
}
MODULES: dict[str, Make] = {
    "dense model": lambda w: w.dense,
    "dense layer": lambda w: nn.Linear(6, 4),
    "empty module": lambda w: nn.Module(),
    "empty sequence of modules": lambda w: nn.Sequential(),
    "model": lambda w: w.model,
    "poisoned model": lambda w: w.poisoned(),
    "class of modules": lambda w: nn.Linear,
    "optimizer of another": lambda w: torch.optim.SGD([w.spare], lr=0.1),
    "optimizer": lambda w: w.optimizer,
    "bound method": lambda w: w.model.forward,
}
NUMBERS = same(0, 1, -1, 2**31, 2**63, 10**400, 10**5000, 0.5, -0.5, 1e-320, 1e300, -0.0, NAN, INF, -INF, 2 + 1j)
OTHERS: dict[str, Make] = {
    **same(None, True, False, np.True_, Fraction(1, 2), *NUMPY.values()),
    **same(
        "", " ", "0", "*", "x" * 5000, "a\nb\x1b[2J", "\ud800", b"", b"x", [], (), {}, [None], [1], ["none"], {1: 2}
    ),
    **same({"*": "2"}, {"*": NAN}, {None: 3}, {"*": [3]}, {"0": -1, "*": 2}, range(3), slice(3), Ellipsis, ..., int),
    "set": lambda w: {"0"},
    "array": lambda w: np.ones((4, 6)),
    "array of none": lambda w: np.array([]),
    "array of objects": lambda w: np.array([None, "x"], dtype=object),
    "generator": lambda w: generator("0", 1),
    "empty generator": lambda w: generator(),
    "function": lambda w: lambda *args: None,
    "object": lambda w: object(),
    "hostile": lambda w: Hostile(),
    "unprintable": lambda w: Unprintable(),
    "dtype": lambda w: torch.float32,
    "device": lambda w: torch.device("cpu"),
    "exception": lambda w: ValueError("x"),
}
FOREIGN: dict[str, Make] = {**NUMBERS, **OTHERS, **TENSORS, **MODULES}
"""What may be given for anything; where it is not right, it must be refused."""

NO_OBJECTS = same(None, 3, "model", [], {}, 0.5, True)
NO_NUMBERS = same(NAN, INF, -INF, "1", "", None, True, [1], (), 1j, 10**5000)
_NO_CHOICES: dict[str, Make] = {
    **same("", "none", "STTP", "x" * 5000, b"sttp", 1, None, True, [], ("sttp",), ["sttp"], {"sttp": 1}, NAN),
    **{name: FOREIGN[name] for name in ("hostile", "unprintable", "array", "tensor of two", "class of modules", "set")},
}


def choice(*values: str) -> Kind:
    """One of several words."""
    return Kind(same(*values, np.str_(values[-1])), _NO_CHOICES)


def optional(kind: Kind) -> Kind:
    """The same, or None."""
    bad = {name: make for name, make in kind.bad.items() if name != "NoneType None"}
    return Kind({**same(None), **kind.good}, bad)
