"""Figures of a study, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sttp_riemann.lab.studies.curves import OVER_COMPRESSION, draw_over_compression, is_ranked, points_of, times_of
from sttp_riemann.lab.studies.histories import over_steps
from sttp_riemann.lab.studies.looks import COLORS, STYLE, legend, legend_of_panels, one_axes, panels, png
from sttp_riemann.lab.studies.results import Result, Row, by_label
from sttp_riemann.lab.studies.variant import Variant, title

# Points from which on some may be too near to each other to be told apart
CROWD = 8
# The paper shows as many in its Figure 5
VALUES_SHOWN = 32


def figures(results: Sequence[Result], rows: Sequence[Row]) -> dict[str, tuple[str, bytes]]:
    """All figures of a study.

    Parameters
    ----------
    results : sequence of Result
        Finished runs.
    rows : sequence of Row
        Their table.

    Returns
    -------
    dict
        File name without suffix to (caption, PNG).
    """
    groups = by_label(results)
    framed = {label: group for label, group in groups.items() if Variant.of(label).frames}
    ranked = is_ranked(list(groups))
    over = "over steps: mean of the seeds, and their range."
    if ranked:
        over = "over steps, mean of the seeds: a panel for each method and path, a line for each rank r, dense dashed."
    largest = " Of each method and path only the largest rank." if ranked else ""
    drawn = {
        "accuracy": (
            f"Test accuracy {over}",
            lambda: over_steps(groups, "test_accuracy", "test accuracy (%)", scale=100),
        ),
        "loss": (
            f"Training loss {over}",
            lambda: over_steps(groups, "train_loss", "training loss", log=True),
        ),
        "compression": (
            f"Test accuracy {OVER_COMPRESSION}",
            lambda: _compression(rows),
        ),
        "time": (
            "Median time of a training step: forward, backward and optimizer.",
            lambda: _time_over_compression(rows) if ranked else _time(rows),
        ),
        "orthogonality": (
            f"Largest entry of XᵀX − I over all frames, {over}",
            lambda: over_steps(framed, "orthogonality_error", "orthogonality error", log=True),
        ),
        "singular_values": (
            "Singular values of the first seed's layers after training, relative to the layer's largest, "
            f"which stands above its column.{largest}",
            lambda: spectra(largest_ranks(groups)),
        ),
    }
    if ranked:
        # What the study is of comes first
        drawn = {"compression": drawn["compression"], **drawn}
    with matplotlib.rc_context(STYLE):
        return {name: (caption, png(draw())) for name, (caption, draw) in drawn.items()}


def largest_ranks(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Of the variants that differ in nothing but the rank, the one that came last: recipes name ranks upwards."""
    last = {Variant.of(label).curve: label for label in groups}
    return {label: groups[label] for label in last.values()}


def _compression(rows: Sequence[Row]) -> Figure:
    points = points_of(rows, lambda row: (row.accuracy, row.accuracy_two_sd))
    crowded = crowd([point.value for point in points if Variant.of(point.label).frames])
    if crowded is None:
        figure, axes = one_axes(height=4.8)
        draw_over_compression(axes, points, "test accuracy (%)")
        legend(axes)
        return figure
    figure, grid = panels(2, columns=1, size=(7.4, 4.0))
    for axes in grid:
        draw_over_compression(axes, points, "test accuracy (%)")
    grid[1].set(ylim=crowded, title="the upper part")
    legend_of_panels(figure, grid[0])
    return figure


def crowd(values: Sequence[float]) -> tuple[float, float] | None:
    """Limits of an axis for the upper three quarters of values; None where they fill half of the range, or none."""
    if len(values) < CROWD:
        return None
    low, high, start = min(values), max(values), float(np.quantile(values, 0.25))
    if high == start or high - start > (high - low) / 2:
        return None
    room = 0.35 * (high - start)
    return start - room, high + room


def _time_over_compression(rows: Sequence[Row]) -> Figure:
    figure, axes = one_axes()
    draw_over_compression(axes, times_of(rows), "median step time (ms)")
    axes.set_ylim(bottom=0)
    legend(axes)
    return figure


def _time(rows: Sequence[Row]) -> Figure:
    figure, axes = one_axes(7.0, 0.6 + 0.45 * len(rows))
    titles = [r.title for r in rows]
    hatches = ["//" if r.frames == "householder" else "" for r in rows]
    bars = axes.barh(
        titles, [r.step_ms for r in rows], color=[COLORS[r.method] for r in rows], hatch=hatches, edgecolor="white"
    )
    axes.bar_label(bars, [f"{r.step_ms:.1f} ms" for r in rows], padding=4)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.15)
    axes.set_xlabel("median step time (ms)")
    return figure


def spectra(groups: dict[str, list[Result]]) -> Figure:
    """Draw the singular values of the first seed's layers as heat maps side by side: the paper's Figure 5."""
    panels = [(label, group[0]["singular_values"]) for label, group in groups.items()]
    layers = max(len(values) for _, values in panels)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + columns * max(2.2, 0.42 * layers), 3.4 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    image: Any = None
    for axes, (label, values) in zip(grid.flat, panels, strict=False):
        image = _heat_map(axes, title(label), values)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=grid, label="singular value / layer's largest", shrink=0.7, pad=0.02)
    return figure


def _heat_map(axes: Axes, name: str, values: dict[str, list[float]]) -> Any:
    depth = min(VALUES_SHOWN, max(len(s) for s in values.values()))
    table = np.full((depth, len(values)), np.nan)
    for column, singular in enumerate(values.values()):
        shown = np.array(singular[:depth])
        table[: len(shown), column] = shown / max(shown[0], np.finfo(float).tiny)
    image = axes.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    for column, singular in enumerate(values.values()):
        axes.text(column, -0.75, f"{singular[0]:.3g}", ha="center", va="bottom", fontsize=6.5, rotation=60)
    axes.set_title(name, fontsize=10, pad=22)
    axes.set(xlabel="layer, input to output", ylabel="singular value")
    axes.set_xticks(range(len(values)), [str(i + 1) for i in range(len(values))], fontsize=7)
    axes.grid(visible=False)
    return image
