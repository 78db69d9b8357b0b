"""What the report of any task is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Contents:
    """A study's results, ready to be laid out.

    Attributes
    ----------
    table : sequence of sequence of str
        The names of the columns, then a line a variant.
    csv : str
        The same for programs.
    told, notes : sequence of str
        What the numbers show, and how to read them.
    figures : mapping
        File name without suffix to (caption, PNG).
    wide : sequence of str
        Those of the figures that need the whole width.
    """

    table: Sequence[Sequence[str]]
    csv: str
    told: Sequence[str]
    notes: Sequence[str]
    figures: Mapping[str, tuple[str, bytes]]
    wide: Sequence[str] = ()
