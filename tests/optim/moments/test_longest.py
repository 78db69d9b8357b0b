"""What a step is at most long, known before a gradient is looked at."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sttp_riemann as sr
from sttp_riemann.optim.moments import MOMENTS
from sttp_riemann.optim.points import Points
from tests.strategies import SEEDS, random_frame

BETAS = st.floats(0, 0.99), st.floats(0, 0.999)


def _group(first: float, second: float, match_adam: bool = True) -> dict[str, object]:
    return {"lr": 1e-2, "betas": (first, second), "eps": 0.0, "match_adam": match_adam, "amsgrad": False}


def _length(kind: str, x: torch.Tensor, gradients: list[torch.Tensor], group: dict) -> tuple[float, float]:
    """Length of the last of several steps at one point, and the bound on it."""
    kept: dict[str, torch.Tensor] = {}
    manifold = sr.PolarStiefel()
    for step, gradient in enumerate(gradients, start=1):
        points = Points(manifold, x, step, group, len(x))
        tangent = manifold.proju(x, gradient)
        direction, scale, _ = MOMENTS[kind].direct(points, tangent, kept)
    return float(torch.linalg.matrix_norm(direction * scale).max()), MOMENTS[kind].longest(points)


@pytest.mark.parametrize("kind", MOMENTS)
@settings(max_examples=60)
@given(*BETAS, SEEDS, st.integers(1, 40), st.booleans())
def test_no_step_is_longer(kind: str, first: float, second: float, seed: int, steps: int, match_adam: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = random_frame(6, 3, seed, batch=2)
    # Of sizes that differ, which is what makes steps long
    gradients = [
        torch.randn(2, 6, 3, generator=generator, dtype=torch.float64) * 10 ** float(size)
        for size in torch.empty(steps).uniform_(-3, 3, generator=generator)
    ]
    length, longest = _length(kind, x, gradients, _group(first, second, match_adam))
    assert length <= longest * (1 + 1e-9)


def test_gradients_that_grow_at_the_worst_rate_come_near_it() -> None:
    x, steps, (first, second) = random_frame(6, 3, 0), 60, (0.9, 0.95)
    gradient = sr.PolarStiefel().proju(x, random_frame(6, 3, 1))
    # Equality of Cauchy and Schwarz: the gradients are as their weights' quotients
    gradients = [gradient * (first / second) ** (steps - step) for step in range(1, steps + 1)]
    length, longest = _length("matrix", x, gradients, _group(first, second))
    assert length == pytest.approx(longest, rel=1e-6)


def test_without_a_memory_of_squares_a_step_may_have_any_length() -> None:
    points = Points(sr.PolarStiefel(), random_frame(6, 3, 0), 2, _group(0.5, 0.0), 1)
    assert MOMENTS["matrix"].longest(points) == math.inf
