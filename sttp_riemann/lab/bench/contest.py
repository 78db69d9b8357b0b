"""A contest: several ways to do one job, and the rows that measuring them gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Run = Callable[[], object]
Row = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """One way to do a job.

    Attributes
    ----------
    name : str
        For readers.
    build : callable
        Sets the job up and returns what does it once. It must be picklable, as it may run in another process.
    guarded : bool
        Whether it may take minutes or more memory than there is, so that a process of its own tries it first.
    missing : str
        Why it cannot take part, and the remedy; empty where it can.
    """

    name: str
    build: Callable[[], Run]
    guarded: bool = False
    missing: str = ""


@dataclass(frozen=True)
class Contest:
    """Contestants that take turns at one job; ratios are relative to the first."""

    case: str
    contestants: tuple[Contestant, ...]


def row(
    contest: Contest, contestant: Contestant, value: float = math.nan, turn: int | None = None, note: str = "",
    capped: bool = False,
) -> Row:  # fmt: skip
    """Give one measurement as a row of the benchmark's table.

    Parameters
    ----------
    contest, contestant
        What was measured.
    value : float
        Seconds, bytes or calls; NaN where nothing was measured.
    turn : int, optional
        The round, within which contestants are compared; None for a measurement outside of all rounds.
    note : str
        A remark beside the value, or instead of it.
    capped : bool
        Whether the contestant was stopped at `value` and would have taken more.
    """
    found = {"case": contest.case, "contestant": contestant.name, "round": turn, "value": value}
    return {**found, "note": note, "capped": capped}
