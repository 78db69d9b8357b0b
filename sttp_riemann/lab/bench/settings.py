"""What a benchmark is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sttp_riemann.errors import ReportedError

ROWS = ("frames", "optimizer", "weights", "training", "memory", "growth", "calls")
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
        Keys of `sttp_riemann.lab.bench.sections.SECTIONS`.
    repetitions : int
        Rounds in which the contestants of a row take turns.
    budget : float
        Seconds that one contestant may take in a row, all rounds together.
    quick : bool
        Tiny shapes, to see that everything runs; times then mean nothing.
    compile : bool
        Pass networks through `torch.compile`.

    Raises
    ------
    BenchError
        If a value is out of range, or there is no such device.
    """

    device: str = "cpu"
    rows: Sequence[str] = ROWS
    repetitions: int = 15
    budget: float = 30.0
    quick: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise BenchError(f"unknown device {self.device!r}: choose one of {', '.join(DEVICES)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise BenchError("device 'cuda' is asked for and torch finds none: use --device cpu")
        unknown = [row for row in self.rows if row not in ROWS]
        if unknown or not self.rows:
            asked = f"unknown row {unknown[0]!r}" if unknown else "no row is asked for"
            raise BenchError(f"{asked}: choose some of {', '.join(ROWS)}")
        if self.repetitions < 1:
            raise BenchError(f"repetitions must be at least 1, not {self.repetitions}")
        if not self.budget > 0:
            raise BenchError(f"budget must be a positive number of seconds, not {self.budget}")


def check_output(output: Path) -> None:
    """See to it that a report can be written there, before hours go into measuring.

    Raises
    ------
    BenchError
        If it is no Markdown file, or a folder of that name is in the way.
    """
    if output.suffix != ".md":
        raise BenchError(f"output must be a Markdown file, such as benchmarks.md, not {str(output)!r}")
    if output.is_dir():
        raise BenchError(f"output {str(output)!r} is a folder: name a file")
