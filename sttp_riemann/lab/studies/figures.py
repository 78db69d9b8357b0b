"""Figures that studies draw from their page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from sttp_riemann.lab.studies.looks import Drawing, legend, looks, panels
from sttp_riemann.lab.studies.measures import STORED, TIME, Measure
from sttp_riemann.lab.studies.page import Page
from sttp_riemann.lab.studies.probing import NOTHING
from sttp_riemann.lab.studies.runs import Result
from sttp_riemann.lab.studies.statistics import interval

# The paper shows as many in its Figure 5
VALUES_SHOWN = 32
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)
# Both paths have the same Z: their points stand this share of the axis to either side of it
SIDE = 0.008
# The interval of two seeds is so wide that nothing else could be seen
FEWEST = 3
# An axis that reaches further is logarithmic: the outputs of an unconstrained discriminator may hide all others
FAR = 20
INTERVALS = "small points are seeds, large ones their mean with its 95 % interval"
LINE = ("color", "linestyle", "linewidth")

Look = Mapping[str, Any]
Series = tuple[Sequence[float], Sequence[Sequence[float]]]
"""Steps, and the values of each run at them."""


def shown(page: Page) -> list[str]:
    """Titles of the variants that a figure over steps has: of several ranks the largest, which comes last."""
    return [titles[-1] for titles in page.curves.values()]


def only_largest(page: Page) -> str:
    """Say in a caption which variants are `shown`."""
    return " Of several ranks only the largest is drawn." if page.ranked else ""


def _line(look: Look) -> dict[str, Any]:
    return {key: look[key] for key in LINE}


def cluster(
    drawing: Drawing, axes: Axes, title: str, place: float, values: Any, measure: Measure, look: Look,
    upright: bool = False, aside: float = 0.0,
) -> float:  # fmt: skip
    """Draw seeds as small points, and their mean with its interval as a large one.

    Parameters
    ----------
    drawing, axes
        Where to.
    title : str
        Of the variant, for what the pointer shows.
    place : float
        On the other axis.
    values : pandas.Series
        Of the seeds.
    measure : Measure
        What they are.
    look : mapping
        Of the variant; see `looks`.
    upright : bool
        Whether values go up rather than to the right.
    aside : float
        How far from the mean's place seeds are.

    Returns
    -------
    float
        The mean, of logarithms where ratios are compared; NaN without values.
    """
    values = values.dropna().to_numpy(dtype=float)
    if not len(values):
        return np.nan
    log = measure.log and values.min() > 0
    mean, low, high = (np.exp(x) if log else x for x in _mean_and_interval(np.log(values) if log else values))

    def draw(along: Any, at: Any, **given: Any) -> Any:
        return axes.plot(*((at, along) if upright else (along, at)), **given)[0]

    seeds = draw(values, [place + aside] * len(values), **{**look, "linestyle": "", "markersize": 3, "alpha": 0.6})
    if len(values) >= FEWEST:
        draw([low, high], [place] * 2, color=look["color"], linewidth=1.4)
    large = draw([mean], [place], **{**look, "linestyle": "", "markersize": 6})
    bounds = "" if np.isnan(low) else f" (95 % interval {measure(low)} to {measure(high)})"
    drawing.tip(seeds, f"{title}: {', '.join(map(measure.told, values))}")
    drawing.tip(large, f"{title}: mean {measure.told(mean)}{bounds}")
    return float(mean)


def _mean_and_interval(values: Any) -> tuple[float, float, float]:
    return float(values.mean()), *interval(values)


def points(page: Page) -> Drawing | None:
    """Draw the first measure and the time of a step, a line a variant."""
    if page.ranked:
        return None
    measures = [m for m in (page.primary, TIME) if m in page.measures]
    figure, grid = panels(len(measures), columns=2, size=(5.2, 0.9 + 0.34 * len(page.variants)), sharey=True)
    drawing = Drawing("points", f"{page.primary.opening} and time of a step: {INTERVALS}.", figure)
    for axes, measure in zip(grid, measures, strict=True):
        for place, (title, look) in enumerate(looks(page.variants).items()):
            cluster(drawing, axes, title, place, page.rows(title)[measure.column], measure, look, aside=0.22)
        axes.set_xlabel(measure.head)
        axes.margins(x=0.08)
        if measure.log:
            # One slow run makes an interval that nothing else could be seen beside
            low, high = page.chosen[measure.column].min(), page.chosen[measure.column].max()
            room = 0.3 * (high - low) + 0.05 * low
            if np.isfinite(high + room):
                axes.set_xlim(max(0, low - room), high + room)
        axes.grid(axis="y", visible=False)
    grid[0].set_yticks(range(len(page.variants)), list(page.variants))
    grid[0].invert_yaxis()
    return drawing


def compression(page: Page) -> Drawing | None:
    """Draw the first measures over compression, a curve for each method and path."""
    if not page.ranked:
        return None
    measures = [m for m in page.measures if (m.pool == "mean" and m.column != page.kind.score.held.column) or m is TIME]
    figure, grid = panels(len(measures), columns=2, size=(5.6, 3.6))
    sides = "" if page.size is STORED else f" The paths have the same {page.size.name} and stand side by side."
    caption = f"Over {page.size.name}: {INTERVALS}; numbers are ranks.{sides}"
    drawing = Drawing("compression", caption, figure)
    lines = looks({page.curve(curve): curve for curve in page.curves})
    for axes, measure in zip(grid, measures, strict=True):
        _over_compression(drawing, axes, page, measure, lines)
    legend(figure, lines)
    return drawing


def _over_compression(drawing: Drawing, axes: Axes, page: Page, measure: Measure, lines: Mapping[str, Look]) -> None:
    size = page.size.column
    sizes = page.chosen[page.chosen.path != ""][size]
    percent = bool(page.size.unit)
    low, high = sizes.min() / 1.4, min(sizes.max() * 1.4, 130) if percent else sizes.max() * 1.4
    for curve, titles in page.curves.items():
        look = lines[page.curve(curve)]
        if not curve.path:
            mean = page.rows(titles[0])[measure.column].mean()
            drawing.tip(axes.axhline(mean, **{**_line(look), "linestyle": ":"}), f"{titles[0]}: {measure.told(mean)}")
            continue
        side = 0 if page.size is STORED else SIDE
        shift = (high / low) ** (side if curve.path == "householder" else -side)
        found = []
        for title in titles:
            rows = page.rows(title)
            place, at = rows[size].mean() * shift, f"{title}, {page.size.name} {page.size.told(rows[size].mean())}"
            found.append((place, cluster(drawing, axes, at, place, rows[measure.column], measure, look, upright=True)))
            if curve.path == "riemannian" and not np.isnan(found[-1][1]):
                offset = (-4, -11 if curve.method == "svdp" else 6)
                axes.annotate(page.variants[title].rank, found[-1], offset, textcoords="offset points", ha="right",
                              fontsize=7, color=look["color"])  # fmt: skip
        axes.plot(*zip(*sorted(found), strict=True), **_line(look))
    axes.set(xscale="log", xlim=(low, high), xlabel=page.size.head, ylabel=measure.head)
    if not percent:
        return
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}" for tick in ticks])


def rates(page: Page) -> Drawing | None:
    """Draw the first measure over learning rates, a panel a rank."""
    if "rate" not in page.choices:
        return None
    ranks = list(dict.fromkeys(variant.rank for variant in page.variants.values() if variant.path))
    figure, grid = panels(len(ranks), sharey=True)
    drawing = Drawing("rates", f"{page.primary.opening} over learning rates: {INTERVALS}.", figure)
    lines = looks({page.curve(curve): curve for curve in page.curves})
    tried = sorted(page.table.rate.unique())
    for axes, rank in zip(grid, ranks, strict=True):
        for title in (t for t, variant in page.variants.items() if variant.rank in ("", rank)):
            look, runs = lines[page.curve(page.variants[title])], page.at_all_rates(title)
            values = dict(list(runs.groupby("rate")[page.primary.column]))
            means = [
                cluster(drawing, axes, f"{title}, {rate:g}", rate, of, page.primary, look, upright=True)
                for rate, of in values.items()
            ]
            axes.plot(list(values), means, **_line(look))
        axes.set(xscale="log", xlabel="learning rate", title=f"rank {rank}" if len(ranks) > 1 else "")
        axes.set_xticks(tried, [f"{rate:g}" for rate in tried])
        axes.xaxis.set_minor_locator(NullLocator())
    grid[0].set_ylabel(page.primary.head)
    if page.primary.scale == 1 and grid[0].get_ylim()[0] < -1:
        # R^2 has no lower bound, and what is far below 0 would hide all differences
        grid[0].set_yscale("symlog", linthresh=1)
    legend(figure, lines)
    return drawing


def differentials(page: Page) -> Drawing | None:
    """Draw the singular values of the differential of W, before (faint) and after training, one panel a method."""
    probed = {title: found for title in page.variants if (found := page.first(title).get("probe"))}
    if not probed:
        return None
    panel_of = {t: f"{page.variants[t].method.upper()}, rank {page.variants[t].rank}" for t in probed}
    names = list(dict.fromkeys(panel_of.values()))
    # What is less is 0 with the rounding of float32 frames
    least = min(v for found in probed.values() for v in (*found["before"], *found["after"]) if v > NOTHING)
    figure, grid = panels(len(names), sharey=True)
    caption = "Singular values of dW/dθ, largest first, before training (faint) and after, first seed."
    drawing = Drawing("differential", caption, figure)
    lines = looks({page.curve(page.variants[title]): page.variants[title] for title in probed})
    for axes, name in zip(grid, names, strict=True):
        for title in (t for t in probed if panel_of[t] == name):
            for when, alpha in (("before", 0.4), ("after", 1.0)):
                share, look = np.linspace(0, 100, len(probed[title][when])), lines[page.curve(page.variants[title])]
                (line,) = axes.plot(share, probed[title][when], alpha=alpha, **_line(look))
                drawing.tip(line, f"{title}, {when} training")
        axes.set(yscale="log", ylim=(0.7 * least, None), xlabel="share of directions (%)", title=name)
    grid[0].set_ylabel("singular value of dW / dθ")
    legend(figure, lines)
    return drawing


def draw_series(drawing: Drawing, axes: Axes, titled: Mapping[str, Series], lines: Mapping[str, Look]) -> None:
    """Draw the mean of runs over steps, and their range; a curve ends with its shortest run."""
    for title, (steps, runs) in titled.items():
        common = min(map(len, runs))
        if not common:
            continue
        table, look = np.array([run[:common] for run in runs], dtype=float), _line(lines[title])
        (line,) = axes.plot(steps[:common], table.mean(0), **look)
        drawing.tip(line, f"{title}: {table[:, -1].mean():.4g} at {steps[common - 1]}")
        axes.fill_between(steps[:common], table.min(0), table.max(0), color=look["color"], alpha=0.12, linewidth=0)


Value = Callable[[Mapping[str, Any]], float | None]
Scale = str
"""Of an axis: linear, log, ``settled`` (from where curves are after a quarter of the run), ``far`` (see `FAR`)."""


def over_steps(
    page: Page, name: str, caption: str, records: Callable[[Result], Any], series: Mapping[str, tuple[Value, Scale]]
) -> Drawing:
    """Draw what runs recorded over steps, a panel a series.

    Parameters
    ----------
    page : Page
        The runs.
    name, caption : str
        Of the drawing.
    records : callable
        From a result to its records, each with its ``step``.
    series : mapping
        By title, what is drawn of a record, or None where it has no such value, and the scale of the axis.

    Returns
    -------
    Drawing
    """
    lines = looks({title: page.variants[title] for title in shown(page)})
    runs = {title: [records(page.results[int(i)]) for i in page.rows(title).index] for title in lines}
    found: dict[str, dict[str, Series]] = {title: {} for title in series}
    for panel, (value, _) in series.items():
        for title, of in runs.items():
            values = [[v for record in run if (v := value(record)) is not None] for run in of]
            if any(values):
                found[panel][title] = [record["step"] for record in of[0]], values
    found = {panel: of for panel, of in found.items() if of}
    figure, grid = panels(len(found), columns=2 if len(found) == 4 else 3, size=(4.2, 3.2))
    drawing = Drawing(name, f"{caption}: mean of the seeds and their range.{only_largest(page)}", figure)
    for axes, (panel, drawn) in zip(grid, found.items(), strict=True):
        draw_series(drawing, axes, drawn, lines)
        scale = series[panel][1]
        axes.set(title=panel, xlabel="step", yscale="log" if scale == "log" else "linear")
        late = [v for _, several in drawn.values() for run in several for v in run[len(run) // 4 :]]
        if scale == "settled" and max(late) > min(late):
            # What comes before hides all differences
            room = 0.08 * (max(late) - min(late))
            axes.set_ylim(min(late) - room, max(late) + room)
        if scale == "far" and max(map(abs, axes.get_ylim())) > FAR:
            axes.set_yscale("symlog")
    legend(figure, lines)
    return drawing


def histories(page: Page) -> Drawing | None:
    """Draw the score, loss, orthogonality and chart margin over steps."""
    score, first = page.kind.score, page.results[0]["history"][0]
    measure = score.held if score.held.column in first else score.tested
    series: dict[str, tuple[Value, Scale]] = {
        measure.head: (lambda row: measure.scale * row[measure.column] if measure.column in row else None, "settled"),
        "training loss": (methodcaller("get", "train_loss"), "log"),
        "orthogonality error": (methodcaller("get", "orthogonality_error"), "log"),
        "chart margin": (methodcaller("get", "chart_margin"), "linear"),
    }
    return over_steps(page, "steps", "Over steps", lambda result: result["history"], series)


def spectra(page: Page) -> Drawing:
    """Draw the singular values of the first seed's layers as heat maps side by side: the paper's Figure 5."""
    return draw_spectra(page, lambda result: result["singular_values"], "layers")


def draw_spectra(page: Page, values: Callable[[Result], Mapping[str, Sequence[float]]], whose: str) -> Drawing:
    """Draw what `values` gives of each variant's first run: singular values by layer."""
    found = {title: values(page.first(title)) for title in shown(page)}
    tables = {title: _relative(list(of.values())) for title, of in found.items()}
    figure, grid = panels(len(found), size=(max(2.6, 0.42 * max(map(len, found.values()))), 3.4), sharey=True)
    # What no layer reaches would take colors from what differs
    least = min(0.99, *(float(np.nanmin(table)) for table in tables.values()))
    image: Any = None
    for axes, (title, table) in zip(grid, tables.items(), strict=True):
        depth, layers = table.shape
        image = axes.imshow(table, aspect="auto", cmap="viridis", vmin=least, vmax=1, interpolation="nearest",
                            extent=(0.5, layers + 0.5, depth + 0.5, 0.5))  # fmt: skip
        for place, singular in enumerate(found[title].values(), 1):
            axes.text(place, 0.25, f"{singular[0]:.3g}", ha="center", va="bottom", fontsize=6.5, rotation=60)
        axes.set_title(title, fontsize=10, pad=28)
        axes.set(xlabel="layer, input to output", ylabel="singular value, largest first")
        axes.set_xticks(range(1, layers + 1), [*map(str, range(1, layers + 1))], fontsize=7)
        axes.grid(visible=False)
    grid[0].set_ylim(max(map(len, tables.values())) + 0.5, 0.5)
    figure.colorbar(image, ax=grid, label="singular value / layer's largest", shrink=0.7, pad=0.02)
    caption = (
        f"Singular values of the {whose} after training, first seed, relative to each layer's largest, which stands "
        f"above its column.{only_largest(page)}"
    )
    return Drawing("singular_values", caption, figure)


def _relative(values: Sequence[Sequence[float]]) -> Any:
    """Give a column a layer, a row a singular value relative to the layer's largest, NaN where there is none."""
    table = np.full((min(VALUES_SHOWN, max(map(len, values))), len(values)), np.nan)
    for column, singular in enumerate(values):
        kept = np.array(singular[: len(table)])
        table[: len(kept), column] = kept / max(kept[0], np.finfo(float).tiny)
    return table
