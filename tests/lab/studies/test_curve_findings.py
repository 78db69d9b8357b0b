from __future__ import annotations

import math

from sttp_riemann.lab.studies.curve_findings import Measure, curve_findings, fewer_seeds
from sttp_riemann.lab.studies.curves import Point
from sttp_riemann.lab.studies.findings import findings
from sttp_riemann.lab.studies.results import tabulate

ACCURACY = Measure("test accuracy", " %", 2, more=True)
FID = Measure("FID", "", 1, more=False)
RIEMANNIAN, HOUSEHOLDER = "sttp-riemannian", "sttp-householder"


def curve(name, *values, spread=1.0):
    ranks = [2**i for i in range(1, len(values) + 1)]
    return [Point(f"{name}-rank{r}", 3.0 * r, v, spread, f"r={r}") for r, v in zip(ranks, values, strict=True)]


def told(points, measure=ACCURACY, times=()):
    return curve_findings(points, times or points, measure)


def test_a_curve_is_told_by_its_ends():
    (text,) = told(curve(RIEMANNIAN, 50, 90, 97))
    assert text == "STTP riemannian: test accuracy goes from 50.00 % at r=2 (Z 6.00 %) to 97.00 % at r=8 (Z 24.00 %)."


def test_it_is_told_from_which_rank_on_a_curve_keeps_up_with_the_baseline():
    (text,) = told([Point("dense", 100, 98, 1.0), *curve(RIEMANNIAN, 97.5, 90, 97, 98)])
    assert "; from r=8 (Z 24.00 %) on no point is worse than dense by more than the seeds' spread." in text


def test_a_curve_that_never_keeps_up_is_called_that():
    (text,) = told([Point("dense", 100, 98, 1.0), *curve(RIEMANNIAN, 50, 90)])
    assert "the largest rank is still worse than dense by more than the seeds' spread" in text


def test_a_single_seed_bears_no_comparison_out():
    points = [Point("dense", 100, 98), *curve(RIEMANNIAN, 50, 98, spread=math.nan)]
    points += curve(HOUSEHOLDER, 60, 98, spread=math.nan)
    first, _, paths = told(points)
    assert "dense" not in first
    assert "with a single seed their difference in test accuracy may be chance" in paths


def test_the_ranks_at_which_the_paths_differ_are_named():
    *_, paths = told(curve(RIEMANNIAN, 50, 90, 98) + curve(HOUSEHOLDER, 60, 88, 98.5))
    assert "STTP, both paths: test accuracy differs by more than the seeds' spread at 2 of 3 ranks" in paths
    assert "r=2 (Householder better by 10.00 %), r=4 (Riemannian better by 2.00 %)" in paths


def test_less_is_better_where_it_is():
    points = [Point("sn", 100, 18, 1.0), *curve(RIEMANNIAN, 30, 19), *curve(HOUSEHOLDER, 40, 19)]
    first, _, paths = told(points, FID)
    assert "from r=4 (Z 12.00 %) on no point is worse than SN" in first
    assert "r=2 (Riemannian better by 10.0)" in paths


def test_the_range_of_the_times_is_told():
    times = curve(RIEMANNIAN, 10, 30) + curve(HOUSEHOLDER, 20, 20)
    *_, paths = told(curve(RIEMANNIAN, 50, 50) + curve(HOUSEHOLDER, 50, 50), times=times)
    assert "test accuracy differs by no more than the seeds' spread at any of 2 ranks" in paths
    assert "a Riemannian step takes 0.50 to 1.50 times as long as a Householder one" in paths


def test_findings_on_many_ranks_are_few(curves):
    sentences = findings(tabulate(curves))
    assert len(sentences) == 2 + 4 + 2 + 2
    text = "\n".join(sentences)
    assert "ends with singular values of at most 1; the largest singular value exceeds 1 in dense (2.00)" in text
    assert text.count("r=") < 20


def test_rows_of_fewer_seeds_are_named():
    assert fewer_seeds({"dense": 3, "STTP": 1}) == "Of fewer seeds than the 3 of the other rows: STTP (1)."
    assert fewer_seeds({"dense": 3, "STTP": 3}) == ""
