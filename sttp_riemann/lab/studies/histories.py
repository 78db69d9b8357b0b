"""Figures over training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sttp_riemann.lab.studies.curves import is_ranked
from sttp_riemann.lab.studies.looks import legend, look, one_axes, panels
from sttp_riemann.lab.studies.results import Result
from sttp_riemann.lab.studies.variant import Variant, title

Groups = Mapping[str, Sequence[Result]]


def over_steps(groups: Groups, key: str, ylabel: str, scale: float = 1.0, log: bool = False) -> Figure:
    """Draw a figure of the histories: mean of the seeds, and their range where lines are few.

    Parameters
    ----------
    groups : mapping
        Results of each variant, by label. Where several ranks are compared, each method and path has a panel of its
        own, and what has no frames is in all of them.
    key : str
        What of the history.
    ylabel : str
        Its name.
    scale : float
        What it is multiplied with.
    log : bool
        Whether the axis is logarithmic.
    """
    if is_ranked(list(groups)):
        return _by_rank(groups, key, ylabel, scale, log)
    figure, axes = one_axes()
    for label, group in groups.items():
        _draw(axes, group, key, scale, band=True, label=title(label), **look(label))
    axes.set(xlabel="step", ylabel=ylabel, yscale="log" if log else "linear")
    if axes.lines:
        legend(axes)
    return figure


def _by_rank(groups: Groups, key: str, ylabel: str, scale: float, log: bool) -> Figure:
    curves: dict[str, list[str]] = {}
    for label in groups:
        if Variant.of(label).frames:
            curves.setdefault(Variant.of(label).curve, []).append(label)
    figure, grid = panels(len(curves), columns=2, sharex=True, sharey=True)
    for axes, (curve, labels) in zip(grid, curves.items(), strict=True):
        for label in (label for label in groups if not Variant.of(label).frames):
            _draw(axes, groups[label], key, scale, label=title(label), **{**look(label), "linestyle": "--"})
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(labels)))
        for label, shade in zip(labels, shades, strict=True):
            rank = Variant.of(label).rank
            _draw(axes, groups[label], key, scale, label=f"r={rank}" if rank else title(label), color=shade)
        axes.set_title(title(curve), fontsize=10)
        axes.set(xlabel="step", ylabel=ylabel, yscale="log" if log else "linear")
        axes.legend(fontsize=7, ncols=2)
    return figure


def _draw(axes: Axes, group: Sequence[Result], key: str, scale: float, band: bool = False, **line: Any) -> None:
    curves = [[(h["step"], h[key]) for h in r["history"] if h.get(key) is not None] for r in group]
    # A run that stops early ends the curve of its variant
    common = min(len(curve) for curve in curves)
    if not common:
        return
    steps = [step for step, _ in curves[0][:common]]
    values = scale * np.array([[v for _, v in curve[:common]] for curve in curves], dtype=float)
    axes.plot(steps, values.mean(0), **line)
    if band:
        axes.fill_between(steps, values.min(0), values.max(0), color=line["color"], alpha=0.12, linewidth=0)
