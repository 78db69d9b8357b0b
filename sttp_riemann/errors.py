"""Errors that users can fix: the command line prints each as one line and exits with its status."""

from __future__ import annotations

LONGEST = 300
"""Maximum length of an error message."""
_CUT = " ... "


class ReportedError(Exception):
    """An error whose message names the problem and the remedy, in one line; see `one_line`.

    Parameters
    ----------
    message : str
        It may quote what a file holds.

    Attributes
    ----------
    status : int
        Exit status of the command line.
    """

    status = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class RecipeError(ReportedError, ValueError):
    """A recipe with an unknown field, a wrong type or an impossible combination."""

    status = 2


class CheckpointError(ReportedError, RuntimeError):
    """A checkpoint or run folder that cannot be read, written or resumed."""


class DivergedError(ReportedError, ArithmeticError):
    """Training diverged: a loss is not a finite number."""


def reason(error: BaseException) -> str:
    """First line of an error's message, or the name of its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(text: str) -> str:
    r"""Shorten a text to one printable line, leaving out its middle: the remedy comes last.

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
    # A text may be as long as a damaged file, so it is cut before every character is examined
    pieces = [text] if len(text) <= LONGEST else [text[:kept], text[-kept:]]
    plain = ("".join(c if c.isprintable() else "?" for c in " ".join(piece.split())) for piece in pieces)
    return _CUT.join(plain)
