from __future__ import annotations

import pytest

from sttp_riemann.lab.training.stopping import is_best, is_stuck


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
