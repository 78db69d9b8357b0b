"""What curves over compression show, in words made from their numbers; the same for every task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sttp_riemann.lab.studies.curves import Point, by_curve
from sttp_riemann.lab.studies.variant import Variant, title


@dataclass(frozen=True)
class Measure:
    """What the curves are of.

    Attributes
    ----------
    name, unit : str
        For a reader; the unit with the space before it.
    digits : int
        Behind the point.
    more : bool
        Whether more is better.
    """

    name: str
    unit: str
    digits: int
    more: bool

    def __call__(self, value: float) -> str:
        """Write a value."""
        return f"{value:.{self.digits}f}{self.unit}"


def curve_findings(points: Sequence[Point], times: Sequence[Point], measure: Measure) -> list[str]:
    """Sentences on every curve and on what the paths differ in.

    Parameters
    ----------
    points : sequence of Point
        Variants with what is measured.
    times : sequence of Point
        The same with the milliseconds of a step.
    measure : Measure
        What is measured.

    Returns
    -------
    list of str
        One for each method and path, and one for each method that has both.
    """
    baseline = next((point for point in points if not Variant.of(point.label).frames), None)
    curves, paces = by_curve(points), by_curve(times)
    sentences = [_one_curve(curve, members, baseline, measure) for curve, members in curves.items()]
    for curve in curves:
        other = curve.replace("riemannian", "householder")
        if other != curve and other in curves:
            told = f"{_accuracies(curves[curve], curves[other], measure)}; {_paces(paces[curve], paces[other])}."
            sentences.append(f"{title(curve).split()[0]}, both paths: {told}")
    return sentences


def _one_curve(curve: str, members: Sequence[Point], baseline: Point | None, measure: Measure) -> str:
    low, high = members[0], members[-1]
    ends = f"{measure(low.value)} at {_place(low)}"
    if high is not low:
        ends += f" to {measure(high.value)} at {_place(high)}"
    return f"{title(curve)}: {measure.name} goes from {ends}{_reaches(members, baseline, measure)}."


def _place(point: Point) -> str:
    return f"{point.told} (Z {point.ratio:.2f} %)"


def _reaches(members: Sequence[Point], baseline: Point | None, measure: Measure) -> str:
    """Tell from which point on none is worse than the baseline by more than the spread."""
    if baseline is None or any(math.isnan(point.two_sd) for point in (*members, baseline)):
        return ""
    name = title(baseline.label)
    reached = None
    for point in reversed(members):
        if _loss(point, baseline, measure) > _spread(point, baseline):
            break
        reached = point
    if reached is None:
        return f"; the largest rank is still worse than {name} by more than the seeds' spread"
    return f"; from {_place(reached)} on no point is worse than {name} by more than the seeds' spread"


def _loss(point: Point, other: Point, measure: Measure) -> float:
    return (other.value - point.value) * (1 if measure.more else -1)


def _spread(point: Point, other: Point) -> float:
    """Two standard deviations of the difference."""
    return math.hypot(point.two_sd, other.two_sd)


def _accuracies(ours: Sequence[Point], others: Sequence[Point], measure: Measure) -> str:
    pairs = [(a, b) for a in ours for b in others if a.told == b.told]
    far = [(a, b) for a, b in pairs if abs(a.value - b.value) > _spread(a, b)]
    if any(math.isnan(_spread(a, b)) for a, b in pairs):
        return f"with a single seed their difference in {measure.name} may be chance"
    if not far:
        return f"{measure.name} differs by no more than the seeds' spread at any of {len(pairs)} ranks"
    told = ", ".join(
        f"{a.told} ({'Riemannian' if _loss(a, b, measure) < 0 else 'Householder'} better by "
        f"{measure(abs(a.value - b.value))})"
        for a, b in far
    )
    return f"{measure.name} differs by more than the seeds' spread at {len(far)} of {len(pairs)} ranks: {told}"


def _paces(ours: Sequence[Point], others: Sequence[Point]) -> str:
    shares = [a.value / b.value for a in ours for b in others if a.told == b.told]
    if not shares:
        return "no rank has run on both"
    return f"a Riemannian step takes {min(shares):.2f} to {max(shares):.2f} times as long as a Householder one"


def fewer_seeds(seeds: Mapping[str, int]) -> str:
    """Tell of rows that are of fewer runs than others, by their names; empty where all are of as many."""
    most = max(seeds.values())
    fewer = [f"{name} ({count})" for name, count in seeds.items() if count < most]
    return f"Of fewer seeds than the {most} of the other rows: {', '.join(fewer)}." if fewer else ""
