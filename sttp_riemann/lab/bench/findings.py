"""What a section shows, in words made from its numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from sttp_riemann.lab.bench.contest import Entry
from sttp_riemann.lab.bench.sections import Section


def findings(section: Section, entries: Sequence[Entry]) -> list[str]:
    """Sentence on each contestant but the reference.

    Parameters
    ----------
    section : Section
        What was measured.
    entries : sequence of Entry
        What came out.

    Returns
    -------
    list of str
        Ranges of ratios, and their geometric means where there are several cases.
    """
    names = dict.fromkeys(entry.name for entry in entries)
    told = {name: [e for e in entries if e.name == name and (e.ratio is not None or e.note)] for name in names}
    return [_sentence(name, own, section.reference) for name, own in told.items() if own]


def _sentence(name: str, entries: Sequence[Entry], reference: str) -> str:
    ratios = [entry.ratio for entry in entries if entry.ratio is not None]
    if not ratios:
        return f"{name}: {'; '.join(dict.fromkeys(entry.note for entry in entries))}."
    text = f"{name}: {min(ratios):.2f} times {reference}"
    if len(ratios) > 1:
        text = f"{name}: {min(ratios):.2f} to {max(ratios):.2f} times {reference}"
        text += f", {statistics.geometric_mean(ratios):.2f} in the geometric mean"
    silent = len(entries) - len(ratios)
    return text + (f"; {silent} of {len(entries)} did not end." if silent else ".")
