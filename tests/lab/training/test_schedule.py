from __future__ import annotations

import pytest

from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.schedule import learning_rate


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
