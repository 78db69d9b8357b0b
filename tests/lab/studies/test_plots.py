from __future__ import annotations

import io

import matplotlib.image
import pytest

from sttp_riemann.lab.studies.plots import crowd, figures, largest_ranks
from sttp_riemann.lab.studies.results import tabulate
from tests.lab.studies.conftest import result

NAMES = ["accuracy", "loss", "compression", "time", "orthogonality", "singular_values"]


def drawn(runs):
    return figures(runs, tabulate(runs))


def test_every_figure_is_a_png_with_a_caption(results):
    found = drawn(results)
    assert list(found) == NAMES
    for caption, png in found.values():
        assert caption.endswith(".")
        height, width, _ = matplotlib.image.imread(io.BytesIO(png)).shape
        assert width > 500
        assert height > 150


@pytest.mark.parametrize("runs", [[result("dense")], [result("sttp", "householder")]])
def test_a_single_run_is_drawn_too(runs):
    assert list(drawn(runs)) == NAMES


def test_many_ranks_are_drawn_with_what_the_study_is_of_first(curves):
    found = drawn(curves)
    assert list(found) == ["compression", *(name for name in NAMES if name != "compression")]
    assert "a panel for each method and path" in found["accuracy"][0]
    assert "only the largest rank" in found["singular_values"][0]


def test_only_the_largest_rank_of_a_curve_is_kept():
    assert list(largest_ranks({"dense": 0, "sttp-riemannian-rank2": 1, "sttp-riemannian-rank8": 2})) == [
        "dense", "sttp-riemannian-rank8"
    ]  # fmt: skip


def test_values_that_crowd_at_one_end_get_an_axis_of_their_own():
    low, high = crowd([50, 84, 96, 97, 98, 98, 98.5, 99, 99])
    assert 90 < low < 96
    assert 99 < high < 101.5


@pytest.mark.parametrize("values", [[50, 98, 99], list(range(50, 100, 5))])
def test_values_that_can_be_told_apart_need_none(values):
    assert crowd(values) is None


def test_runs_that_ended_at_different_steps_are_drawn_as_far_as_they_go_together(results):
    results[3]["history"] = results[3]["history"][:1]
    assert list(drawn(results)) == NAMES


def test_the_same_results_give_the_same_bytes(results):
    assert drawn(results) == drawn(results)
