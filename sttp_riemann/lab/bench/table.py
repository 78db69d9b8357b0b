"""Entries as a table: a line a case, a column a contestant."""

from __future__ import annotations

from collections.abc import Sequence

from sttp_riemann.lab.bench.contest import Entry


def amount(value: float, unit: str) -> str:
    """Write a value with its unit, to three digits.

    Parameters
    ----------
    value : float
        In the base unit.
    unit : {"seconds", "bytes", "calls"}
        Which.
    """
    if unit == "seconds":
        return f"{_three(value)} s" if value >= 1 else f"{_three(1e3 * value)} ms"
    if unit == "bytes":
        return f"{_three(value / 2**20)} MiB"
    return f"{value:.0f}"


def cell(entry: Entry, unit: str) -> str:
    """Write what is known of one contestant in one case."""
    if entry.value is None:
        return entry.note
    ratio = "" if entry.ratio is None else f" (×{_three(entry.ratio)})"
    return f"{amount(entry.value, unit)}{ratio}" + f", {entry.note}" * bool(entry.note)


def grid(entries: Sequence[Entry], unit: str) -> list[list[str]]:
    """Lines of a table, the heads of its columns first."""
    names = list(dict.fromkeys(entry.name for entry in entries))
    lines = [["", *names]]
    for case in dict.fromkeys(entry.case for entry in entries):
        found = {entry.name: cell(entry, unit) for entry in entries if entry.case == case}
        lines.append([case, *(found.get(name, "") for name in names)])
    return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown, its columns aligned for a terminal."""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    padded = [
        [text.ljust(width) if not column else text.rjust(width) for column, (text, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    rule = "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths))
    head, *rest = (f"| {' | '.join(line)} |" for line in padded)
    return "\n".join([head, f"|{rule}|", *rest])


def _three(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"
