"""When each path wins, in words made from the numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sttp_riemann.lab.studies.ablation.grid import Variant
from sttp_riemann.lab.studies.ablation.looks import Look

Pair = tuple[Look, Look]
# Two figures that differ by less than this factor count as equal
EQUAL = 1.05


@dataclass(frozen=True)
class Criterion:
    """Something that can be better on one path than on the other.

    Attributes
    ----------
    name : str
        What is compared, as the beginning of a sentence.
    value : callable
        From a variant and what was seen of it to a number; NaN where there is none.
    text : callable
        A value for a reader.
    more : bool
        Whether more is better.
    """

    name: str
    value: Callable[[Look], float]
    text: Callable[[float], str]
    more: bool = False


CRITERIA = (
    Criterion("Time of a step", lambda s: s.variant.best.step_ms, lambda v: f"{v:.1f} ms"),
    Criterion(
        "Steps to the target at the quickest rate",
        lambda s: math.nan if s.variant.fastest is None else s.variant.fastest.typical_steps or math.nan,
        lambda v: f"{v:.0f}",
    ),
    Criterion("Mean accuracy over all rates", lambda s: s.variant.mean_accuracy, lambda v: f"{v:.2f} %", more=True),
    Criterion("Condition of the differential before training", lambda s: s.start, lambda v: f"{v:.3g}"),
    Criterion("Condition of the differential after training", lambda s: s.end, lambda v: f"{v:.3g}"),
    Criterion("Spread of gradient norms", lambda s: s.spread, lambda v: f"{v:.3g}"),
    Criterion("Distance of float32 from float64", lambda s: s.drift.distance, lambda v: f"{v:.1e}"),
    Criterion("Orthogonality error after the drift", lambda s: s.drift.orthogonality, lambda v: f"{v:.1e}"),
)


def verdicts(pairs: Sequence[Pair]) -> list[str]:
    """One sentence a criterion, final accuracy first, over all methods and ranks.

    Parameters
    ----------
    pairs : sequence
        Both paths of each method and rank, the Riemannian first.
    """
    return [_accuracy([(a.variant, b.variant) for a, b in pairs]), *(_verdict(c, pairs) for c in CRITERIA)]


def _accuracy(pairs: Sequence[tuple[Variant, Variant]]) -> str:
    beyond = {"Riemannian": 0, "Householder": 0}
    gaps = []
    for ours, other in pairs:
        gap = ours.best.accuracy - other.best.accuracy
        gaps.append(gap)
        if abs(gap) > _spread(ours, other):
            beyond["Riemannian" if gap > 0 else "Householder"] += 1
    within = len(pairs) - sum(beyond.values())
    told = ", ".join(f"{path} ahead in {count}" for path, count in beyond.items())
    return (
        f"Final accuracy, each at its best rate: {told}, within the spread of the seeds in {within} of "
        f"{len(pairs)} pairs; Riemannian minus Householder is {statistics.fmean(gaps):+.2f} points on average "
        f"(from {min(gaps):+.2f} to {max(gaps):+.2f})."
    )


def _spread(ours: Variant, other: Variant) -> float:
    """Two standard deviations of the difference of single runs; without end where there is one seed."""
    spread = math.hypot(ours.best.two_sd, other.best.two_sd)
    return math.inf if math.isnan(spread) else spread


def _verdict(criterion: Criterion, pairs: Sequence[Pair]) -> str:
    wins = {"Riemannian": 0, "Householder": 0}
    values = []
    for pair in pairs:
        ours, other = (criterion.value(look) for look in pair)
        if math.isnan(ours) or math.isnan(other):
            continue
        values.append((ours, other))
        if max(ours, other) > EQUAL * min(ours, other) or criterion.more:
            wins["Riemannian" if (ours > other) == criterion.more else "Householder"] += 1
    if not values:
        return f"{criterion.name}: never measured on both paths."
    medians = [criterion.text(statistics.median(side)) for side in zip(*values, strict=True)]
    told = ", ".join(f"{path} better in {count}" for path, count in wins.items())
    return f"{criterion.name}: {told} of {len(values)} pairs; medians {medians[0]} and {medians[1]}."
