from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.training.randomness import seed_step


def draw(*key: int) -> list[float]:
    seed_step(*key)
    return torch.rand(3).tolist()


def test_a_step_draws_the_same_numbers_again_whatever_was_drawn_before():
    first = draw(1, 2, 0)
    torch.rand(100)
    assert draw(1, 2, 0) == first


@pytest.mark.parametrize("other", [(2, 2, 0), (1, 3, 0), (1, 2, 1), (2, 1, 0)])
def test_seed_step_and_process_each_change_the_numbers(other):
    assert draw(*other) != draw(1, 2, 0)
