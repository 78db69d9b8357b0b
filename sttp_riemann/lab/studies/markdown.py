"""Markdown that shows what a recipe or a file says, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape


def plain(text: object) -> str:
    """Write a text so that no HTML is in it, on one line.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.markdown import plain
    >>> plain("a <script>")
    'a &lt;script&gt;'
    """
    return escape(" ".join(str(text).split()), quote=False)


def cell(text: object) -> str:
    """Write a text as a cell of a table, which no bar in it ends."""
    return plain(text).replace("|", r"\|")


def fenced(text: str, language: str) -> str:
    """Write a text as a block of code that it cannot end itself."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{text}{fence}"


def code(text: str) -> str:
    """Write a text as code within a sentence."""
    text = " ".join(text.split())
    fence = "`" * (1 + _longest_run(text))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown, aligned for a terminal.

    Parameters
    ----------
    lines : sequence of sequence of str
        Cells, as many a line; the first line is the names of the columns.

    Returns
    -------
    str
        The first column flush left, the others flush right.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.markdown import markdown_table
    >>> print(markdown_table([["method", "Z (%)"], ["dense", "100.00"]]))
    | method |  Z (%) |
    |--------|-------:|
    | dense  | 100.00 |
    """
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def join(line: Sequence[str]) -> str:
        return "| " + " | ".join(_justify(i, text, widths[i]) for i, text in enumerate(line)) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([join(lines[0]), rule, *(join(line) for line in lines[1:])])


def _justify(column: int, text: str, width: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
