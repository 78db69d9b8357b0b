"""How a report reads finished runs: what it chooses and which differences matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.measures import SIZES


@dataclass(frozen=True)
class Reading:
    """How finished runs are read.

    Attributes
    ----------
    margin : float or None
        Difference in the first measure that does not matter, in the units of readers; the measure's own by default.
    choose : sequence of str
        Fields in which runs differ and whose best value is chosen by held-out examples, as the learning rate always is.
    target : float
        Accuracy, or R^2 of a regression, that steps are counted to, as a fraction.
    size : {"ratio", "dof", "stored"}
        What ranks are drawn over, and where their curves are compared: compression Z, or numbers of the weights.

    Raises
    ------
    RecipeError
        A value is out of range; the message gives the range.
    """

    margin: float | None = None
    choose: Sequence[str] = ()
    target: float = 0.95
    size: str = "ratio"

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise RecipeError(f"margin must be positive and finite, not {self.margin}")
        if not 0 < self.target < 1:
            raise RecipeError(f"target must be between 0 and 1, not {self.target}")
        if self.size not in SIZES:
            raise RecipeError(f"size must be one of {', '.join(SIZES)}, not {self.size!r}")
        if isinstance(self.choose, str):
            raise RecipeError(f"choose takes a list of fields, such as [moment], not {self.choose!r}")
