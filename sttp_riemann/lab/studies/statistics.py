"""What paired runs show: differences with intervals, exact tests, and verdicts over a family of them.

Runs of two variants are paired by their seed, which decides the start and the order of the data.

Notes
-----
Up to `EXACT` pairs a difference is tested by flipping signs: if the variants are the same, each pair's difference could
as well have the other sign, and p is the share of all sign patterns whose mean is at least as far from 0. That assumes
nothing of the distribution, and costs resolution: of n pairs no p is below 2 / 2^n. Holm's method multiplies the
smallest p of a family of m comparisons by m, so that no difference is found with fewer than log2(2 m / 0.05) pairs:
6 for one comparison, 7 for two, 8 for up to six. `fewest_pairs` gives the number, and a family is kept small: one
measure, and only the comparisons that the study is made for.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""Largest chance of a false claim, over a whole family."""
EXACT = 12
"""Most pairs whose signs are flipped in all ways."""
# Sums of the same numbers in another order differ by their rounding
ROUNDING = 1e-9

Alternative = Literal["two-sided", "greater", "less"]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Difference:
    """The paired difference of two variants.

    Attributes
    ----------
    pairs : int
        How many seeds both have.
    mean : float
        Ours less the other's; NaN without pairs.
    low, high : float
        Bounds of its 95 % interval (Student's t); NaN where there is none, see `interval`.
    p : float
        Of a test that the mean is 0, before and, in a `judge`'s answer, after Holm's correction.
    margin : float or None
        Difference that does not matter; None where none was named, so that nothing can be called equivalent.
    p_equivalent : float
        The larger of two one-sided tests that the mean lies beyond the margin; 1 without a margin.
    comparisons : int
        Of the family that it was judged in.
    """

    pairs: int
    mean: float
    low: float
    high: float
    p: float
    margin: float | None = None
    p_equivalent: float = 1.0
    comparisons: int = 1

    @property
    def different(self) -> bool:
        """Whether the mean is not 0."""
        return self.p <= LEVEL

    @property
    def equivalent(self) -> bool:
        """Whether the mean is within the margin."""
        return self.p_equivalent <= LEVEL

    @property
    def too_few(self) -> bool:
        """Whether there are too few pairs to find any difference."""
        return self.pairs < fewest_pairs(self.comparisons)


def fewest_pairs(comparisons: int) -> int:
    """Give the fewest pairs with which the smallest p of a family can be below `LEVEL`.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.statistics import fewest_pairs
    >>> [fewest_pairs(m) for m in (1, 2, 6)]
    [6, 7, 8]
    """
    return math.ceil(math.log2(2 * comparisons / LEVEL))


def pair(ours: Mapping[Hashable, float], other: Mapping[Hashable, float]) -> list[float]:
    """Give the differences of two variants' values, by seed, over the seeds that both have."""
    return [ours[seed] - other[seed] for seed in ours if seed in other]


def vary(values: Sequence[float]) -> bool:
    """Whether values differ by more than their rounding."""
    return len(values) > 1 and float(np.ptp(values)) > ROUNDING * float(np.abs(values).max())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % interval of a mean; NaN for fewer than two values, or values that do not `vary`.

    A few equal values do not make a mean certain: they say nothing of how far another seed may be from it.
    """
    if not vary(values):
        return math.nan, math.nan
    found = stats.ttest_1samp(values, 0.0).confidence_interval(1 - LEVEL)
    return float(found.low), float(found.high)


def flip_signs(differences: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """Test that differences are symmetric about 0, by all patterns of their signs.

    Parameters
    ----------
    differences : sequence of float
        Of pairs; at most `EXACT` are sensible.
    alternative : {"two-sided", "greater", "less"}
        What the mean may be instead of 0.

    Returns
    -------
    float
        Share of the patterns whose sum is at least as extreme as the observed one.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.statistics import flip_signs
    >>> flip_signs([0.1, 0.3, 0.2, 0.1, 0.2, 0.4])
    0.03125
    """
    values: NDArray[np.float64] = np.asarray(differences, dtype=float)
    patterns = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
    sums = (1 - 2 * patterns) @ values
    slack = ROUNDING * float(np.abs(values).sum())
    extreme = {
        "two-sided": np.abs(sums) >= abs(values.sum()) - slack,
        "greater": sums >= values.sum() - slack,
        "less": sums <= values.sum() + slack,
    }
    return float(np.mean(extreme[alternative]))


def mean_test(differences: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """Test that a mean difference is 0: exactly up to `EXACT` pairs, by Student's t beyond; 1 without pairs.

    Equal differences are tested by their signs however many there are: t would be infinite, and p no smaller than 0.
    """
    if not len(differences):
        return 1.0
    if len(differences) <= EXACT or not vary(differences):
        return flip_signs(differences[:EXACT], alternative)
    return float(stats.ttest_1samp(differences, 0.0, alternative=alternative).pvalue)


def difference(differences: Sequence[float], margin: float | None = None) -> Difference:
    """Describe and test paired differences.

    Parameters
    ----------
    differences : sequence of float
        One a seed; see `pair`.
    margin : float, optional
        Difference that does not matter.

    Returns
    -------
    Difference
        Alone, not yet corrected for others; see `judge`.
    """
    mean = float(np.mean(differences)) if len(differences) else math.nan
    equivalent = 1.0
    if margin is not None:
        above = mean_test([d + margin for d in differences], "greater")
        below = mean_test([d - margin for d in differences], "less")
        equivalent = max(above, below)
    return Difference(
        len(differences), mean, *interval(differences), mean_test(differences), margin, p_equivalent=equivalent
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Correct the p of a family by Holm's method, so that any claim at all is wrong with a chance of `LEVEL` at most.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.statistics import holm
    >>> holm([0.01, 0.04, 0.02])
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(ps, kind="stable")
    corrected = np.maximum.accumulate(np.minimum(1, np.arange(len(ps), 0, -1) * np.asarray(ps)[order]))
    return [float(p) for p in corrected[np.argsort(order)]]


def share_interval(count: int, runs: int) -> tuple[float, float]:
    """Give the exact 95 % interval (Clopper and Pearson) of a share of which `count` of so many runs were seen.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.statistics import share_interval
    >>> [round(bound, 2) for bound in share_interval(0, 6)]
    [0.0, 0.46]
    """
    found = stats.binomtest(count, runs).proportion_ci(1 - LEVEL)
    return float(found.low), float(found.high)


def share_test(ours: tuple[int, int], other: tuple[int, int]) -> float:
    """Test that two shares, each as (count, runs), are the same: Fisher's exact test.

    It takes runs of one seed for independent, and does not use that they are paired.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.statistics import share_test
    >>> round(share_test((0, 6), (6, 6)), 5)
    0.00216
    """
    return float(stats.fisher_exact([[count, runs - count] for count, runs in (ours, other)]).pvalue)


def judge(family: Sequence[Difference]) -> list[Difference]:
    """Correct a family of comparisons, differences and equivalences each by Holm's method.

    Parameters
    ----------
    family : sequence of Difference
        All comparisons that a report makes.

    Returns
    -------
    list of Difference
        The same, with corrected p.
    """
    ps, equivalents = holm([d.p for d in family]), holm([d.p_equivalent for d in family])
    return [
        replace(d, p=p, p_equivalent=equivalent, comparisons=len(family))
        for d, p, equivalent in zip(family, ps, equivalents, strict=True)
    ]


def matched(ours: Mapping[Hashable, Points], other: Mapping[Hashable, Points]) -> tuple[list[float], float, float]:
    """Compare two curves over compression where they have the same size.

    Parameters
    ----------
    ours, other : mapping
        By seed, the points (size, value) of a curve, in any order. Between them values are linear in the size's log.

    Returns
    -------
    differences : list of float
        For each seed of both, the mean difference over the size's log, on the range of sizes that all curves share.
    low, high : float
        Bounds of that range; there are no differences, and both are NaN, where curves share none.
    """
    seeds = [seed for seed in ours if seed in other]
    curves = [sorted(side[seed]) for seed in seeds for side in (ours, other)]
    low = max((curve[0][0] for curve in curves), default=math.nan)
    high = min((curve[-1][0] for curve in curves), default=math.nan)
    if not low <= high:
        return [], math.nan, math.nan
    return [_mean_gap(ours[seed], other[seed], low, high) for seed in seeds], low, high


def _mean_gap(ours: Points, other: Points, low: float, high: float) -> float:
    # Both are straight between neighbours of all points, where the trapezoid rule is exact
    inner = {z for z, _ in (*ours, *other) if low <= z <= high}
    places = np.log(sorted({low, high, *inner}))
    gaps = _along(ours, places) - _along(other, places)
    if low == high:
        return float(gaps[0])
    return float(np.trapezoid(gaps, places) / (places[-1] - places[0]))


def _along(points: Points, places: NDArray[np.float64]) -> NDArray[np.float64]:
    ratios, values = zip(*sorted(points), strict=True)
    return np.interp(places, np.log(ratios), values)
