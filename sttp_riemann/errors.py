"""Faults that a user can mend: the command line prints each as one line and exits with its status."""

from __future__ import annotations

LONGEST = 300
"""Characters of a line that tells of a file."""
_CUT = " ... "


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
    """A checkpoint or run folder that cannot be read, written or gone on with; see `one_line`.

    Parameters
    ----------
    message : str
        It may quote what a file holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DivergedError(ReportedError, ArithmeticError):
    """A loss that is not a finite number."""


def one_line(text: str) -> str:
    r"""Shorten a text to one printable line; its middle is left out, as a remedy comes last.

    Parameters
    ----------
    text : str
        Of any length, with any characters.

    Returns
    -------
    str
        At most `LONGEST` characters.

    Examples
    --------
    >>> from sttp_riemann.errors import one_line
    >>> one_line("a\nb\x1b[2J")
    'a b?[2J'
    """
    kept = (LONGEST - len(_CUT)) // 2
    # Texts may be as long as a damaged file, so they are cut before anything looks at every character
    pieces = [text] if len(text) <= LONGEST else [text[:kept], text[-kept:]]
    plain = ("".join(c if c.isprintable() else "?" for c in " ".join(piece.split())) for piece in pieces)
    return _CUT.join(plain)
