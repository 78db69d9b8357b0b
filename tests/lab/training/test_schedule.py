from __future__ import annotations

import pytest

from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.schedule import is_best, is_stuck, learning_rate


@pytest.mark.parametrize(
    ("decay", "rates"),
    [
        ("none", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [1, 0.8535534, 0.5, 0.1464466]),
        ("steps", [1, 1, 0.1, 0.01]),
    ],
)
def test_the_learning_rate_follows_its_decay(decay, rates):
    recipe = Recipe().changed(decay=decay, lr=1.0, steps=4, milestones=[0.5, 0.75], decay_factor=0.1)
    assert [learning_rate(recipe, step) for step in range(4)] == pytest.approx(rates)


@pytest.mark.parametrize(("scores", "best"), [([1], True), ([1, 2], True), ([2, 2], False), ([3, 1, 2], False)])
def test_the_last_score_is_best_when_it_beats_all_before(scores, best):
    assert is_best(scores) is best


@pytest.mark.parametrize(
    ("scores", "patience", "stuck"),
    [
        ([], 1, False),
        ([1], 1, False),
        ([1, 1], 1, True),
        ([2, 1, 1], 2, True),
        ([2, 1, 3], 2, False),
        ([1, 2, 1, 1], 3, False),
        ([3, 2, 1, 0], 0, False),
    ],
)
def test_a_run_is_stuck_when_its_last_scores_are_no_better(scores, patience, stuck):
    assert is_stuck(scores, patience) is stuck
