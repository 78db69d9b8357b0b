from __future__ import annotations

import io

import matplotlib.image
import pytest

from sttp_riemann.study.plots import figures
from sttp_riemann.study.results import tabulate
from tests.study.conftest import result

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


def test_runs_that_ended_at_different_steps_are_drawn_as_far_as_they_go_together(results):
    results[3]["history"] = results[3]["history"][:1]
    assert list(drawn(results)) == NAMES


def test_the_same_results_give_the_same_bytes(results):
    assert drawn(results) == drawn(results)
