"""Faults that a user can mend: the command line prints each as one line and exits with its status."""

from __future__ import annotations


class ReportedError(Exception):
    """A fault whose message names the thing and the remedy.

    Attributes
    ----------
    status : int
        Exit status of the command line.
    """

    status = 1


class RecipeError(ReportedError, ValueError):
    """A recipe with an unknown field, a wrong type or an impossible combination."""

    status = 2


class CheckpointError(ReportedError, RuntimeError):
    """A checkpoint or run folder that cannot be read, written or gone on with."""


class DivergedError(ReportedError, ArithmeticError):
    """A loss that is not a finite number."""
