"""What a benchmark is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sttp_riemann.errors import ReportedError

ROWS = ("frames", "optimizer", "weights", "training", "memory", "growth", "serving", "language", "stack", "calls")
DEVICES = ("cpu", "cuda")


class BenchError(ReportedError, ValueError):
    """A benchmark that cannot be run as it was asked for."""

    status = 2


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    device : {"cpu", "cuda"}
        Where.
    rows : sequence of str
        Keys of `sttp_riemann.lab.bench.run.PARTS`.
    repetitions : int
        Rounds in which the contestants take turns.
    budget : float
        Seconds that one contestant may take in a contest, all rounds together.
    quick : bool
        Tiny shapes, to see that everything runs; times then mean nothing.
    compile : bool
        Pass networks through `torch.compile`.

    Raises
    ------
    BenchError
        A value is out of range, or there is no such device.
    """

    device: str = "cpu"
    rows: Sequence[str] = ROWS
    repetitions: int = 15
    budget: float = 30.0
    quick: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name, asked, known in (("device", [self.device], DEVICES), ("row", self.rows, ROWS)):
            if unknown := [value for value in asked if value not in known]:
                raise BenchError(f"unknown {name} {unknown[0]!r}: choose from {', '.join(known)}")
        if not self.rows:
            raise BenchError(f"no row is asked for: choose from {', '.join(ROWS)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise BenchError("device 'cuda' is asked for and torch finds none: use --device cpu")
        if self.repetitions < 1:
            raise BenchError(f"repetitions must be at least 1, not {self.repetitions}")
        if not self.budget > 0:
            raise BenchError(f"budget must be a positive number of seconds, not {self.budget}")
