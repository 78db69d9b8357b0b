"""Figures of a study, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sttp_riemann.study.results import Result, Row, by_label, title

COLORS = {"dense": "#6b7280", "svdp": "#2563a8", "sttp": "#d97706"}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
# Both paths have the same Z: their points stand this factor to either side of it
SIDE = 1.015
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
    drawn = {
        "accuracy": ("Test accuracy over steps: mean of the seeds, and their range.", lambda: _accuracy(groups)),
        "loss": ("Training loss over steps: mean of the seeds, and their range.", lambda: _loss(groups)),
        "compression": (
            "Test accuracy over compression Z: mean and two standard deviations. The two paths have the same Z and are "
            "drawn side by side, each with its rank r.",
            lambda: _ratio(rows),
        ),
        "time": ("Median time of a training step: forward, backward and optimizer.", lambda: _time(rows)),
        "orthogonality": ("Largest entry of XᵀX − I over all frames, at each evaluation.", lambda: _errors(groups)),
        "singular_values": (
            "Singular values of the first seed's layers after training, relative to the layer's largest, "
            "which stands above its column.",
            lambda: spectra(groups),
        ),
    }
    with matplotlib.rc_context(STYLE):
        return {name: (caption, png(draw())) for name, (caption, draw) in drawn.items()}


def png(figure: Figure) -> bytes:
    """Draw a figure as the bytes of a PNG file, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _axes(width: float = 7.0, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _line(label: str) -> dict[str, Any]:
    method, _, frames = label.partition("-")
    return {"color": COLORS[method], "linestyle": "--" if frames == "householder" else "-"}


def _legend(axes: Axes) -> None:
    """Above the axes, where no curve can be."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _over_steps(axes: Axes, groups: dict[str, list[Result]], key: str, scale: float = 1.0) -> None:
    for label, group in groups.items():
        curves = [[(h["step"], h[key]) for h in r["history"] if h.get(key) is not None] for r in group]
        if not curves[0]:
            continue
        # A run that stops early ends the curve of its variant
        common = min(len(curve) for curve in curves)
        steps = [step for step, _ in curves[0][:common]]
        values = scale * np.array([[v for _, v in curve[:common]] for curve in curves], dtype=float)
        axes.plot(steps, values.mean(0), label=title(label), linewidth=1.8, **_line(label))
        axes.fill_between(steps, values.min(0), values.max(0), color=_line(label)["color"], alpha=0.12, linewidth=0)
    axes.set_xlabel("step")


def _accuracy(groups: dict[str, list[Result]]) -> Figure:
    figure, axes = _axes()
    _over_steps(axes, groups, "test_accuracy", 100)
    axes.set_ylabel("test accuracy (%)")
    _legend(axes)
    return figure


def _loss(groups: dict[str, list[Result]]) -> Figure:
    figure, axes = _axes()
    _over_steps(axes, groups, "train_loss")
    axes.set(ylabel="training loss", yscale="log")
    _legend(axes)
    return figure


def _errors(groups: dict[str, list[Result]]) -> Figure:
    figure, axes = _axes()
    _over_steps(axes, {k: v for k, v in groups.items() if k != "dense"}, "orthogonality_error")
    axes.set(ylabel="orthogonality error", yscale="log")
    if axes.lines:
        _legend(axes)
    return figure


def _ratio(rows: Sequence[Row]) -> Figure:
    figure, axes = _axes()
    dense = next((r for r in rows if r.method == "dense"), None)
    if dense is not None:
        axes.axhline(dense.accuracy, color=COLORS["dense"], linestyle="--", linewidth=1.2, label="dense")
    for row in (r for r in rows if r.method != "dense"):
        x = row.ratio * (SIDE if row.frames == "householder" else 1 / SIDE)
        axes.errorbar(
            x,
            row.accuracy,
            yerr=None if np.isnan(row.accuracy_two_sd) else row.accuracy_two_sd,
            fmt="s" if row.frames == "householder" else "o",
            markersize=8,
            markerfacecolor="white" if row.frames == "householder" else COLORS[row.method],
            color=COLORS[row.method],
            capsize=4,
            label=row.title,
        )
        told = "r by layer" if row.rank is None else f"r={row.rank:g}"
        axes.annotate(told, (x, row.accuracy), (6, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="compression Z (% of the dense network, log axis)", ylabel="test accuracy (%)")
    _percent_ticks(axes, [r.ratio for r in rows if r.method != "dense"])
    _legend(axes)
    return figure


def _percent_ticks(axes: Axes, ratios: Sequence[float]) -> None:
    """Plain numbers around the points; a log axis by itself writes powers of ten and may show none."""
    if not ratios:
        return
    low, high = min(ratios) / 1.6, min(max(ratios) * 1.6, 130)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100) if low <= t <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)


def _time(rows: Sequence[Row]) -> Figure:
    figure, axes = _axes(7.0, 0.6 + 0.45 * len(rows))
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
