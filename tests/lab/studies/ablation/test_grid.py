from __future__ import annotations

import math

import pytest

from sttp_riemann.lab.studies.ablation.grid import Cell, Variant, outcome, steps_to


def cell(rate: float, *accuracies: float, steps: tuple[int | None, ...] = (None,)) -> Cell:
    return Cell("sttp", "riemannian", 4, rate, accuracies, steps, 1.0)


def test_the_best_rate_is_that_of_the_highest_mean():
    variant = Variant("sttp", "riemannian", 4, (cell(0.1, 99, 50), cell(0.2, 80, 82), cell(0.3, 81, 80.5)))
    assert variant.best.rate == 0.2
    assert variant.good_rates == [0.2, 0.3]
    assert variant.mean_accuracy == pytest.approx((74.5 + 81 + 80.75) / 3)


def test_steps_to_a_target_count_only_where_most_seeds_reach_it():
    assert cell(0.1, 0, steps=(10, None, 30)).typical_steps == 30
    assert cell(0.1, 0, steps=(10, None, None)).typical_steps is None


def test_a_single_seed_has_no_spread():
    assert math.isnan(cell(0.1, 50).two_sd)


def test_steps_are_counted_to_the_first_evaluation_at_the_target():
    history = [
        {"step": 10, "test_accuracy": 0.9},
        {"step": 20, "test_accuracy": 0.95},
        {"step": 30, "test_accuracy": 1},
    ]
    assert steps_to({"history": history}, 95) == 20
    assert steps_to({"history": history[:1]}, 95) is None
    assert steps_to(None, 95) is None


def test_a_run_that_diverges_has_no_outcome(tiny, tmp_path):
    assert outcome(tiny(method="dense", optimizer="sgd", lr=1e30, decay="none", steps=20), tmp_path) is None
