"""Figures of a GAN study, as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sttp_riemann.lab.studies.curves import OVER_COMPRESSION, draw_over_compression, is_ranked, points_of
from sttp_riemann.lab.studies.gan_results import MEASURES, GanRow, Record, Run, scaled
from sttp_riemann.lab.studies.looks import STYLE, legend_of_panels, look, marker, panels, png
from sttp_riemann.lab.studies.plots import largest_ranks, spectra

SHEETS = 4
"""Moments of training whose samples are shown."""
Series = Callable[[Record], float]


def gan_figures(rows: Sequence[GanRow]) -> dict[str, tuple[str, bytes]]:
    """All figures of a GAN study.

    Parameters
    ----------
    rows : sequence of GanRow
        The table, with its runs.

    Returns
    -------
    dict
        File name without suffix to (caption, PNG).
    """
    drawn = {
        "metrics": ("Metrics of samples over steps: mean of the seeds, and their range.", _metrics),
        "stability": (
            "The discriminator's layers over steps, mean of the seeds and their range: the largest spectral norm "
            "of any layer; the stable rank over the number of singular values, mean of the layers with more than "
            "one; the norm of the gradient by all weights.",
            _stability,
        ),
        "outputs": (
            "The discriminator's mean output on real (solid) and generated images (dashed), first seed.",
            _outputs,
        ),
        "singular_values": (
            "Singular values of the discriminator's layers after training, first seed, relative to the layer's "
            "largest, which stands above its column: the paper's Figure 5 for every method.",
            lambda rows: spectra({row.label: [_as_result(row.runs[0])] for row in rows}),
        ),
        "samples": ("Samples of the same noise over training, first seed.", _samples),
        "interpolations": (
            "Spherical interpolation between six pairs of latent points after training, first seed.",
            _interpolations,
        ),
    }
    ranked = is_ranked([row.label for row in rows])
    shown = list(largest_ranks({row.label: row for row in rows}).values())
    kept = " Of each method and path only the largest rank." if ranked else ""
    with matplotlib.rc_context(STYLE):
        found = {name: (caption + kept, png(draw(shown))) for name, (caption, draw) in drawn.items()}
        if not ranked:
            return found
        caption = f"Metrics of the last samples {OVER_COMPRESSION}"
        return {"compression": (caption, png(over_compression(rows))), **found}


WIDE = ("compression", "metrics", "stability", "singular_values", "samples", "interpolations")
"""Figures that need the page's whole width."""


def over_compression(rows: Sequence[GanRow]) -> Figure:
    """Draw a line of panels for each network that is compressed, with one for each metric."""
    names = [name for name in MEASURES if name in rows[0].figures]
    sizes: dict[str, Callable[[GanRow], float]] = {"D": lambda row: row.ratio}
    if any(row.generator_ratio != 100 for row in rows):
        sizes["G"] = lambda row: row.generator_ratio
    figure, grid = panels(len(sizes) * len(names), columns=len(names))
    kinds = [(name, part) for part in sizes for name in names]
    for axes, (name, part) in zip(grid, kinds, strict=True):
        label, _, _, more = MEASURES[name]
        points = points_of(rows, scaled(name), sizes[part])
        draw_over_compression(axes, points, f"{label} ({'more' if more else 'less'} is better)", f"Z of {part} (%)")
    legend_of_panels(figure, grid[0])
    return figure


def _metrics(rows: Sequence[GanRow]) -> Figure:
    names = [name for name in MEASURES if name in rows[0].figures]
    figure, grid = panels(len(names))
    for axes, name in zip(grid, names, strict=True):
        label, _, _, more = MEASURES[name]
        _over_steps(axes, rows, partial(_measure, name))
        axes.set_title(f"{label} ({'more' if more else 'less'} is better)", fontsize=10)
    legend_of_panels(figure, grid[0])
    return figure


def _measure(name: str, record: Record) -> float:
    value: float = MEASURES[name][1] * record["figures"][name]
    return value


def _stability(rows: Sequence[GanRow]) -> Figure:
    series: dict[str, Series] = {
        "largest spectral norm": lambda record: max(layer["spectral_norm"] for layer in record["layers"].values()),
        "mean relative stable rank": _relative_stable_rank,
        "gradient norm": lambda record: sum(x["gradient_norm"] ** 2 for x in record["layers"].values()) ** 0.5,
    }
    figure, grid = panels(len(series))
    for axes, (name, value) in zip(grid, series.items(), strict=True):
        _over_steps(axes, rows, value)
        axes.set_title(name, fontsize=10)
        if name != "mean relative stable rank":
            axes.set_yscale("log")
    legend_of_panels(figure, grid[0])
    return figure


def _relative_stable_rank(record: Record) -> float:
    layers = [layer for layer in record["layers"].values() if len(layer["top"]) > 1]
    return float(np.mean([layer["stable_rank"] / len(layer["top"]) for layer in layers]))


def _outputs(rows: Sequence[GanRow]) -> Figure:
    figure = Figure(figsize=(7.0, 4.0))
    axes = figure.add_subplot()
    for row in rows:
        records = row.runs[0].records
        steps = [record["step"] for record in records]
        for kind, dashes in (("real", "-"), ("fake", "--")):
            values = [float(np.mean(record["outputs"][kind])) for record in records]
            line = {**look(row.label), **marker(row.label), "linestyle": dashes, "markersize": 3}
            axes.plot(steps, values, label=row.title if kind == "real" else None, **line)
    # Unconstrained outputs may be beyond all others
    axes.set_yscale("symlog")
    axes.set(xlabel="step of the generator", ylabel="mean output (symmetric log axis)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=8)
    return figure


def _samples(rows: Sequence[GanRow]) -> Figure:
    steps = [record["step"] for record in rows[0].runs[0].records]
    chosen = [steps[i] for i in sorted({round(x) for x in np.linspace(0, len(steps) - 1, SHEETS)})]
    return _gallery(rows, "samples", chosen)


def _interpolations(rows: Sequence[GanRow]) -> Figure:
    columns = min(3, len(rows))
    figure = Figure(figsize=(4.2 * columns, 3.0 * -(-len(rows) // columns)), layout="constrained")
    grid = figure.subplots(-(-len(rows) // columns), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows, strict=False):
        run = row.runs[0]
        _show(axes, run.folder / "interpolations" / _file(run.records[-1]["step"]))
        axes.set_title(row.title, fontsize=10)
    return figure


def _gallery(rows: Sequence[GanRow], name: str, steps: Sequence[int]) -> Figure:
    figure = Figure(figsize=(2.3 * len(rows), 2.45 * len(steps)), layout="constrained")
    grid = figure.subplots(len(steps), len(rows), squeeze=False)
    for line, step in zip(grid, steps, strict=True):
        for axes, row in zip(line, rows, strict=True):
            _show(axes, row.runs[0].folder / name / _file(step))
            axes.set_title(f"{row.title}\nstep {step}" if step == steps[0] else f"step {step}", fontsize=9)
    return figure


def _show(axes: Axes, path: Path) -> None:
    axes.set_axis_off()
    # A run that ended early has no samples of later steps
    if path.is_file():
        axes.imshow(matplotlib.image.imread(path), interpolation="nearest")


def _file(step: int) -> str:
    return f"{step:09d}.png"


def _over_steps(axes: Axes, rows: Sequence[GanRow], value: Series) -> None:
    for row in rows:
        curves = [[value(record) for record in run.records] for run in row.runs]
        common = min(len(curve) for curve in curves)
        table = np.array([curve[:common] for curve in curves], dtype=float)
        steps = [record["step"] for record in row.runs[0].records[:common]]
        line = look(row.label)
        axes.plot(steps, table.mean(0), label=row.title, **line)
        axes.fill_between(steps, table.min(0), table.max(0), color=line["color"], alpha=0.12, linewidth=0)
    axes.set_xlabel("step of the generator")


def _as_result(run: Run) -> dict[str, Any]:
    """Give the last record's singular values where `spectra` looks for a run's."""
    return {"singular_values": {name: layer["top"] for name, layer in run.records[-1]["layers"].items()}}
