"""Figures of a benchmark, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from sttp_riemann.lab.bench.contest import Entry
from sttp_riemann.lab.studies.looks import STYLE, png

PALETTE = ("#2563a8", "#d97706", "#7fb0dd", "#f2bd7a", "#7c3aed", "#6b7280")
# As in the figures of a study: one colour a method, here a lighter one for its second path; darker and greener ones
# where it keeps V^T x
COLORS = {
    "dense": "#6b7280",
    "SVDP riemannian": "#2563a8",
    "SVDP householder": "#7fb0dd",
    "STTP riemannian": "#d97706",
    "STTP householder": "#f2bd7a",
    "SVDP riemannian, keeping V^T x": "#173f6c",
    "SVDP householder, keeping V^T x": "#4f8a9b",
    "STTP riemannian, keeping V^T x": "#8f4e04",
    "STTP householder, keeping V^T x": "#b3a24f",
}
MARKERS = ("D", "o", "s", "^", "v", "P")
BAR = 0.8


def draw(kind: str, entries: Sequence[Entry], reference: str) -> bytes:
    """Draw one section.

    Parameters
    ----------
    kind : {"bars", "curves"}
        Ratios as bars, or values over sizes.
    entries : sequence of Entry
        What was measured.
    reference : str
        What ratios are relative to.

    Returns
    -------
    bytes
        PNG.
    """
    with matplotlib.rc_context(STYLE):
        return png(_bars(entries, reference) if kind == "bars" else _curves(entries))


def _bars(entries: Sequence[Entry], reference: str) -> Figure:
    """Ratios as bars that begin at 1, so that what is faster or smaller points the other way."""
    names = list(dict.fromkeys(entry.name for entry in entries if entry.ratio is not None or entry.note))
    cases = list(dict.fromkeys(entry.case for entry in entries))
    figure = Figure(figsize=(8.0, 1.2 + 0.26 * len(names) * len(cases)))
    axes = figure.add_subplot()
    height = BAR / max(1, len(names))
    for index, name in enumerate(names):
        own = [entry for entry in entries if entry.name == name]
        places = [cases.index(entry.case) + (index - (len(names) - 1) / 2) * height for entry in own]
        lengths = [(entry.ratio or 1.0) - 1 for entry in own]
        bars = axes.barh(places, lengths, height, left=1, color=_color(index, name), label=name)
        texts = [entry.note if entry.ratio is None else f"{entry.ratio:.2f}" for entry in own]
        axes.bar_label(bars, texts, padding=3, fontsize=8)
    axes.axvline(1, color="#374151", linewidth=1)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set(xscale="log", xlabel=f"times {reference} (log axis)")
    _plain_ticks(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _curves(entries: Sequence[Entry]) -> Figure:
    """One panel a dimension, whose cases are named "dimension size"."""
    dimensions = list(dict.fromkeys(entry.case.split()[0] for entry in entries))
    figure = Figure(figsize=(4.0 * len(dimensions), 3.8), layout="constrained")
    panels = figure.subplots(1, len(dimensions), squeeze=False, sharey=True)[0]
    for axes, dimension in zip(panels, dimensions, strict=True):
        _panel(axes, dimension, [entry for entry in entries if entry.case.split()[0] == dimension])
    panels[0].set_ylabel("training step (ms)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _panel(axes: Axes, dimension: str, entries: Sequence[Entry]) -> None:
    for index, name in enumerate(dict.fromkeys(entry.name for entry in entries)):
        points = [(int(e.case.split()[1]), 1e3 * e.value) for e in entries if e.name == name and e.value is not None]
        sizes, milliseconds = zip(*points, strict=True)
        axes.plot(sizes, milliseconds, MARKERS[index], ls="-", color=_color(index, name), label=name)
    axes.set(xscale="log", yscale="log", xlabel=f"{dimension} (log axis)")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    _plain_ticks(axes.yaxis)


def _plain_ticks(axis: Axis) -> None:
    """Plain numbers; a log axis by itself writes powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _color(index: int, name: str) -> str:
    return COLORS[name] if name in COLORS else PALETTE[index % len(PALETTE)]
