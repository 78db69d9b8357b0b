"""A contest: several ways to do one job, and what measuring them gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Contestant:
    """One way to do a job.

    Attributes
    ----------
    name : str
        For the reader.
    build : callable
        Sets the job up and returns what does it once. A module's function or a `functools.partial` of one, as it may
        have to travel to another process.
    guarded : bool
        Whether it may take minutes or more memory than there is, so that it is tried in a process of its own first.
    missing : str
        Why it cannot take part, and the remedy; empty where it can.
    """

    name: str
    build: Callable[[], Run]
    guarded: bool = False
    missing: str = ""


@dataclass(frozen=True)
class Contest:
    """Contestants that take turns at one job; ratios are to the one named `reference`."""

    case: str
    contestants: tuple[Contestant, ...]
    reference: str


@dataclass(frozen=True)
class Entry:
    """A cell of a table.

    Attributes
    ----------
    case, name : str
        Its row and its column.
    value : float or None
        What was measured, in seconds, bytes or calls; None where nothing was.
    ratio : float or None
        Relative to the reference of the row; None for that itself.
    note : str
        What there is to say instead of the value, or along with it.
    """

    case: str
    name: str
    value: float | None = None
    ratio: float | None = None
    note: str = ""
