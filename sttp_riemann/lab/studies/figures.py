"""Figures that studies of every kind draw from their page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from sttp_riemann.lab.studies.looks import Drawing, curves, legend, looks, panels
from sttp_riemann.lab.studies.measures import SIZE, TIME, VALIDATION, Measure
from sttp_riemann.lab.studies.page import Page
from sttp_riemann.lab.studies.runs import Result
from sttp_riemann.lab.studies.statistics import interval

# The paper shows as many in its Figure 5
VALUES_SHOWN = 32
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)
# Both paths have the same Z: their points stand this share of the axis to either side of it
SIDE = 0.008
# The interval of two seeds is so wide that nothing else could be seen
FEWEST = 3
INTERVALS = "small points are seeds, large ones their mean with its 95 % interval"


def shown(page: Page) -> list[str]:
    """Titles of the variants that a figure over steps has: of several ranks the largest, which comes last."""
    last = {replace(variant, rank=""): title for title, variant in page.variants.items()}
    return list(last.values())


def only_largest(page: Page) -> str:
    """Tell in a caption which variants are `shown`."""
    return " Of several ranks only the largest is drawn." if page.ranked else ""


def points(page: Page) -> Drawing | None:
    """Draw the first measure and the time of a step: a line a variant, seeds as points, means with intervals."""
    if page.ranked:
        return None
    measures = [m for m in (page.primary, TIME) if m in page.measures]
    figure, grid = panels(len(measures), columns=2, size=(5.2, 0.9 + 0.34 * len(page.variants)), sharey=True)
    caption = f"{page.primary.name.capitalize()} and time of a step: {INTERVALS}."
    drawing = Drawing("points", caption, figure, wide=True)
    for axes, measure in zip(grid, measures, strict=True):
        for place, (title, look) in enumerate(looks(page.variants).items()):
            _interval(drawing, axes, title, place, page.rows(title)[measure.column], measure, look)
        axes.set_xlabel(measure.head)
        axes.margins(x=0.08)
        if measure.log:
            # One slow run makes an interval that nothing else could be seen beside
            low, high = page.chosen[measure.column].min(), page.chosen[measure.column].max()
            axes.set_xlim(low - 0.3 * (high - low) - 0.05 * low, high + 0.3 * (high - low) + 0.05 * low)
        axes.grid(axis="y", visible=False)
    grid[0].set_yticks(range(len(page.variants)), list(page.variants))
    grid[0].invert_yaxis()
    return drawing


def _interval(
    drawing: Drawing, axes: Axes, title: str, place: float, values: Any, measure: Measure, look: dict[str, Any]
) -> None:
    values = list(values.dropna())
    if not values:
        return
    seeds = axes.plot(values, [place + 0.22] * len(values), **{**look, "linestyle": "", "markersize": 3, "alpha": 0.7})
    drawing.tip(seeds[0], f"{title}: {', '.join(measure.told(v) for v in values)}")
    mean, low, high = _mean_with_interval(values, measure)
    if len(values) >= FEWEST:
        axes.plot([low, high], [place] * 2, color=look["color"], linewidth=1.4)
    (dot,) = axes.plot([mean], [place], **{**look, "linestyle": "", "markersize": 7})
    bounds = f" (95 % interval {measure(low)} to {measure(high)})" if len(values) > 1 else ""
    drawing.tip(dot, f"{title}: mean {measure.told(mean)}{bounds}")


def _mean_with_interval(values: Sequence[float], measure: Measure) -> tuple[float, float, float]:
    """Give the mean and the bounds of its interval, of logarithms where ratios are compared."""
    if not measure.log or min(values) <= 0:
        return float(np.mean(values)), *interval(values)
    logs = np.log(values)
    mean, low, high = (float(np.exp(x)) for x in (np.mean(logs), *interval(list(logs))))
    return mean, low, high


def compression(page: Page) -> Drawing | None:
    """Draw the first measures over compression, a curve for each method and path."""
    if not page.ranked:
        return None
    measures = [m for m in page.measures if (m.pool == "mean" and m is not VALIDATION) or m is TIME]
    figure, grid = panels(len(measures), columns=2, size=(5.6, 3.6))
    caption = f"Over compression Z: {INTERVALS}; numbers are ranks. The paths have the same Z and stand side by side."
    drawing = Drawing("compression", caption, figure, wide=True)
    for axes, measure in zip(grid, measures, strict=True):
        _over_compression(drawing, axes, page, measure)
    names = curves(page.variants)
    legend(figure, {page.curve(page.variants[title]): names[title] for title in shown(page)}, columns=4)
    return drawing


def _over_compression(drawing: Drawing, axes: Axes, page: Page, measure: Measure) -> None:
    found = curves(page.variants)
    lines: dict[Any, list[tuple[float, float]]] = {}
    sizes = [float(page.rows(title).ratio.mean()) for title, v in page.variants.items() if v.path]
    low, high = min(sizes) / 1.4, min(max(sizes) * 1.4, 130)
    for title, variant in page.variants.items():
        rows, look = page.rows(title), found[title]
        values = rows[measure.column].dropna()
        if not len(values):
            continue
        mean, *bounds = _mean_with_interval(list(values), measure)
        if not variant.path:
            line = axes.axhline(mean, color=look["color"], linestyle=":", linewidth=1.4)
            drawing.tip(line, f"{title}: {measure.told(mean)}")
            continue
        shift = (high / low) ** (SIDE if variant.path == "householder" else -SIDE)
        place = float(rows.ratio.mean()) * shift
        lines.setdefault(replace(variant, rank=""), []).append((place, mean))
        axes.plot([place] * len(values), values, **{**look, "linestyle": "", "markersize": 2.5, "alpha": 0.6})
        if len(values) >= FEWEST:
            axes.plot([place, place], bounds, color=look["color"], linewidth=1)
        (dot,) = axes.plot([place], [mean], **{**look, "linestyle": ""})
        drawing.tip(dot, f"{title}, Z {rows.ratio.mean():.2f} %: mean {measure.told(mean)}")
        if variant.path == "riemannian":
            below = variant.method == "svdp"
            offset = (-4, -11) if below else (-4, 6)
            axes.annotate(variant.rank, (place, mean), offset, textcoords="offset points", ha="right", fontsize=7,
                          color=look["color"])  # fmt: skip
        curve = sorted(lines[replace(variant, rank="")])
        if len(curve) > 1:
            axes.plot(*zip(*curve[-2:], strict=True), **{k: look[k] for k in ("color", "linestyle", "linewidth")})
    axes.set(xscale="log", xlim=(low, high), xlabel=SIZE.head, ylabel=measure.head)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}" for tick in ticks])


Series = tuple[Sequence[float], Sequence[Sequence[float]]]


def draw_series(drawing: Drawing, axes: Axes, titled: Mapping[str, Series], lines: dict[str, dict[str, Any]]) -> None:
    """Draw the mean of seeds over steps, and their range; a curve ends with its shortest seed."""
    for title, (steps, runs) in titled.items():
        common = min(map(len, runs))
        if not common:
            continue
        table = np.array([run[:common] for run in runs], dtype=float)
        look = {k: lines[title][k] for k in ("color", "linestyle", "linewidth")}
        (line,) = axes.plot(steps[:common], table.mean(0), **look)
        drawing.tip(line, f"{title}: {table[:, -1].mean():.4g} at step {steps[common - 1]}")
        axes.fill_between(steps[:common], table.min(0), table.max(0), color=look["color"], alpha=0.12, linewidth=0)
    axes.set_xlabel("step")


def histories(page: Page) -> Drawing | None:
    """Draw accuracy, loss and orthogonality over steps."""
    accuracy = "validation" if "validation_accuracy" in page.results[0]["history"][0] else "test"
    wanted = {
        f"{accuracy}_accuracy": (f"{accuracy} accuracy (%)", 100.0),
        "train_loss": ("training loss", 1.0),
        "orthogonality_error": ("orthogonality error", 1.0),
    }
    kept = {key: told for key, told in wanted.items() if any(key in r["history"][0] for r in page.results)}
    figure, grid = panels(len(kept), size=(4.2, 3.2))
    lines = looks({title: page.variants[title] for title in shown(page)})
    caption = f"Over steps: mean of the seeds and their range.{only_largest(page)}"
    drawing = Drawing("steps", caption, figure, wide=True)
    for axes, (key, (name, scale)) in zip(grid, kept.items(), strict=True):
        series = {title: found for title in lines if (found := _series(page, title, key, scale))}
        draw_series(drawing, axes, series, lines)
        axes.set(title=name, yscale="linear" if "accuracy" in key else "log")
        if "accuracy" in key:
            _settled(axes, series)
    legend(figure, lines, columns=4)
    return drawing


def _series(page: Page, title: str, key: str, scale: float) -> Series | None:
    runs = [page.results[int(i)]["history"] for i in page.rows(title).index]
    if key not in runs[0][0]:
        return None
    return [row["step"] for row in runs[0]], [[scale * row[key] for row in run if key in row] for run in runs]


def _settled(axes: Axes, series: dict[str, Series]) -> None:
    """Begin the axis where curves are after a quarter of the run: what comes before hides all differences."""
    late = [v for _, runs in series.values() for run in runs for v in run[len(run) // 4 :]]
    if late and max(late) > min(late):
        room = 0.08 * (max(late) - min(late))
        axes.set_ylim(min(late) - room, max(late) + room)


def spectra(page: Page) -> Drawing:
    """Draw the singular values of the first seed's layers as heat maps side by side: the paper's Figure 5."""
    return draw_spectra(page, lambda result: result["singular_values"], "layers")


def draw_spectra(page: Page, values: Any, whose: str) -> Drawing:
    """Draw what `values` gives of each variant's first run: singular values by layer."""
    found = {title: values(page.first(title)) for title in shown(page)}
    layers = max(len(of) for of in found.values())
    figure, grid = panels(len(found), size=(max(2.6, 0.42 * layers), 3.4))
    image: Any = None
    for axes, (title, of) in zip(grid, found.items(), strict=True):
        image = _heat_map(axes, title, of)
    figure.colorbar(image, ax=grid, label="singular value / layer's largest", shrink=0.7, pad=0.02)
    caption = (
        f"Singular values of the {whose} after training, first seed, relative to each layer's largest, which stands "
        f"above its column.{only_largest(page)}"
    )
    return Drawing("singular_values", caption, figure, wide=True)


def _heat_map(axes: Axes, name: str, values: Result) -> Any:
    depth = min(VALUES_SHOWN, max(len(s) for s in values.values()))
    table = np.full((depth, len(values)), np.nan)
    for column, singular in enumerate(values.values()):
        kept = np.array(singular[:depth])
        table[: len(kept), column] = kept / max(kept[0], np.finfo(float).tiny)
        axes.text(column, -0.75, f"{singular[0]:.3g}", ha="center", va="bottom", fontsize=6.5, rotation=60)
    image = axes.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(name, fontsize=10, pad=22)
    axes.set(xlabel="layer, input to output", ylabel="singular value")
    axes.set_xticks(range(len(values)), [str(i + 1) for i in range(len(values))], fontsize=7)
    axes.grid(visible=False)
    return image
