"""Performance over compression: a curve for each method and path (Obukhov et al. 2021, Figures 6 and 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from matplotlib.axes import Axes

from sttp_riemann.lab.studies.looks import look, marker
from sttp_riemann.lab.studies.variant import Variant, title

# Both paths have the same Z: their points stand this share of the axis to either side of it
SIDE = 0.006
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)
ROOM = 1.6
OVER_COMPRESSION = (
    "over compression Z: mean and two standard deviations of the seeds, a curve for each method and path, each point "
    "with its rank r. The two paths have the same Z and are drawn side by side."
)
SIZE_AXIS = "compression Z (% of the dense network, log axis)"


@dataclass(frozen=True)
class Point:
    """One variant in a figure over compression.

    Attributes
    ----------
    label : str
        The variant's.
    ratio : float
        Compression Z in percent.
    value, two_sd : float
        Mean over seeds and two standard deviations (NaN for one seed).
    told : str
        What is written at the point: its rank.
    """

    label: str
    ratio: float
    value: float
    two_sd: float = math.nan
    told: str = ""


class Tabled(Protocol):
    """A row of any task's table."""

    @property
    def label(self) -> str:
        """The variant's."""
        ...

    @property
    def rank(self) -> float | None:
        """The one rank of all layers; None where each has its own."""
        ...

    @property
    def ratio(self) -> float:
        """Compression Z in percent."""
        ...

    @property
    def step_ms(self) -> float:
        """Time of a step."""
        ...


R = TypeVar("R", bound=Tabled)


def points_of(
    rows: Sequence[R], value: Callable[[R], tuple[float, float]], ratio: Callable[[R], float] = lambda row: row.ratio
) -> list[Point]:
    """Give the points that rows are; `value` gives mean and two standard deviations, `ratio` their place."""
    return [Point(row.label, ratio(row), *value(row), told=_told_rank(row)) for row in rows]


def times_of(rows: Sequence[R]) -> list[Point]:
    """Give the milliseconds of a step as points."""
    return points_of(rows, lambda row: (row.step_ms, math.nan))


def _told_rank(row: Tabled) -> str:
    compared = Variant.of(row.label).rank
    if compared:
        return f"r={compared}"
    return "r by layer" if row.rank is None else f"r={row.rank:g}"


def is_ranked(labels: Sequence[str]) -> bool:
    """Whether several ranks are compared."""
    return any(Variant.of(label).rank for label in labels)


def by_curve(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points of each curve in the order of Z, by the label without the rank; what has no frames is in none."""
    found: dict[str, list[Point]] = {}
    for point in points:
        variant = Variant.of(point.label)
        if variant.frames:
            found.setdefault(variant.curve, []).append(point)
    return {curve: sorted(members, key=lambda point: point.ratio) for curve, members in found.items()}


def draw_over_compression(axes: Axes, points: Sequence[Point], ylabel: str, xlabel: str = SIZE_AXIS) -> None:
    """Draw a curve for each method and path over a log axis, and a dashed line for each method that has no frames."""
    for point in (point for point in points if not Variant.of(point.label).frames):
        dashed = {**look(point.label), "linestyle": "--", "linewidth": 1.2}
        axes.axhline(point.value, label=title(point.label), **dashed)
    curves = by_curve(points)
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ratios = [point.ratio for members in curves.values() for point in members]
    if not ratios:
        return
    low, high = _percent_axis(axes, ratios)
    shift = (high / low) ** SIDE
    for curve, members in curves.items():
        _draw_curve(axes, curve, members, shift if curve.endswith("householder") else 1 / shift)


def _draw_curve(axes: Axes, curve: str, members: Sequence[Point], shift: float) -> None:
    places = [point.ratio * shift for point in members]
    spreads = [0.0 if math.isnan(point.two_sd) else point.two_sd for point in members]
    axes.errorbar(
        places,
        [point.value for point in members],
        yerr=spreads if any(spreads) else None,
        label=title(curve),
        markersize=6,
        capsize=3,
        elinewidth=1.0,
        **look(curve),
        **marker(curve),
    )
    # A corner for each path and method, as their points may nearly coincide
    left, below = not curve.endswith("householder"), curve.startswith("svdp")
    for place, point in zip(places, members, strict=True):
        axes.annotate(
            # Many ranks want room, and the caption says what the numbers are
            point.told.removeprefix("r=") if len(members) > 1 else point.told,
            (place, point.value),
            (-4 if left else 4, -11 if below else 6),
            textcoords="offset points",
            horizontalalignment="right" if left else "left",
            annotation_clip=True,
            fontsize=8,
            color=look(curve)["color"],
        )


def _percent_axis(axes: Axes, ratios: Sequence[float]) -> tuple[float, float]:
    """Plain numbers around the points; a log axis by itself writes powers of ten and may show none."""
    low, high = min(ratios) / ROOM, min(max(ratios) * ROOM, 130)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    return low, high
