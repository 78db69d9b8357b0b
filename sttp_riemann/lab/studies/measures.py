"""Measures of runs: the columns of a study's table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Pool = Literal["mean", "median", "first", "max", "count"]


@dataclass(frozen=True)
class Measure:
    """A column of the table of runs.

    Attributes
    ----------
    column : str
        Its name for programs.
    name : str
        Its name for readers.
    form : str
        Format of a value; see `format`.
    unit : str
        Unit after a value, with its space.
    more : bool or None
        Whether more is better; None where that is no question.
    pool : {"mean", "median", "first", "max", "count"}
        How a variant's row sums up its seeds: a mean with its interval; a count of those whose value is 1, not 0.
    scale : float
        Factor between the values in files and those for readers.
    log : bool
        Whether values are compared by their ratio.
    margin : float or None
        Difference that does not matter, for tests of equivalence.
    """

    column: str
    name: str
    form: str = ".2f"
    unit: str = ""
    more: bool | None = None
    pool: Pool = "mean"
    scale: float = 1.0
    log: bool = False
    margin: float | None = None

    def __call__(self, value: float) -> str:
        """Write a value as a cell of a table; a dash where there is none."""
        return "–" if math.isnan(value) else format(value, self.form)

    def told(self, value: float) -> str:
        """Write a value within a sentence."""
        return f"{self(value)}{self.unit}"

    @property
    def opening(self) -> str:
        """Name at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def head(self) -> str:
        """Name of the column with its unit."""
        return f"{self.name} ({self.unit.strip()})" if self.unit.strip() else self.name


@dataclass(frozen=True)
class Score:
    """What runs of one task with labels are judged by.

    Attributes
    ----------
    tested, held : Measure
        On the test examples, and on those held out.
    target : str
        A value of it in words, where ``{}`` is the number in the units of readers.
    """

    tested: Measure
    held: Measure
    target: str


ACCURACY = Measure("test_accuracy", "test accuracy", unit=" %", more=True, scale=100, margin=0.5)
VALIDATION = Measure("validation_accuracy", "validation accuracy", unit=" %", more=True, scale=100, margin=0.5)
R2 = Measure("test_r2", "test R²", ".4f", more=True, margin=0.005)
VALIDATION_R2 = Measure("validation_r2", "validation R²", ".4f", more=True, margin=0.005)
RMSE = Measure("test_rmse", "test RMSE", ".4g", more=False)
OF_CLASSES = Score(ACCURACY, VALIDATION, "{:g} %")
OF_NUMBERS = Score(R2, VALIDATION_R2, "R² {:g}")
SIZE = Measure("ratio", "Z", unit=" %", more=False, pool="first")
GENERATOR_SIZE = Measure("generator_ratio", "Z of G", unit=" %", more=False, pool="first")
DOF = Measure("dof", "degrees of freedom", ",.0f", more=False, pool="first")
STORED = Measure("stored", "stored numbers", ",.0f", more=False, pool="first")
SIZES = {"ratio": SIZE, "dof": DOF, "stored": STORED}
"""By what curves over ranks are compared, by the name that a reader gives."""
TIME = Measure("step_ms", "step", ".1f", " ms", more=False, pool="median", log=True)
ORTHOGONALITY = Measure("orthogonality_error", "orthogonality error", ".1e", more=False, pool="max", log=True)
COMMON = (
    SIZE,
    DOF,
    STORED,
    TIME,
    ORTHOGONALITY,
    Measure("singular_value", "largest singular value", ".4f", pool="max"),
)
