"""The moment "polar": the direction of the polar factor, and the length of one second moment a matrix."""

from __future__ import annotations

import geoopt
import torch
from hypothesis import given
from hypothesis import strategies as st

import sttp_riemann as sr
from sttp_riemann.frames.polar import nearest_frame
from sttp_riemann.optim.moments.polar import near_polar
from tests.strategies import SEEDS, random_frame

MANIFOLD = sr.PolarStiefel()


def _conditioned(condition: float, seed: int, size: float) -> torch.Tensor:
    """Matrices (3, 12, 5) with singular values from `size` down to `size / condition`."""
    left, right = random_frame(12, 5, seed, batch=3), random_frame(5, 5, seed + 1, batch=3)
    values = size * torch.logspace(0, -1, 5, base=condition, dtype=torch.float64)
    return (left * values) @ right.mT


@given(SEEDS, st.floats(1, 40), st.floats(1e-12, 1e12))
def test_singular_values_within_a_factor_of_forty_all_come_near_one(seed: int, condition: float, size: float) -> None:
    x = _conditioned(condition, seed, size)
    values = torch.linalg.svdvals(near_polar(x))
    assert (values - 1).abs().max() < 0.0932
    assert (near_polar(x) - nearest_frame(x)).abs().max() < 0.0932


def test_directions_that_are_missing_stay_missing() -> None:
    x = _conditioned(10, 0, 1.0)
    x[..., -1] = x[..., 0]
    values = torch.linalg.svdvals(near_polar(x))
    assert (values[..., :-1] - 1).abs().max() < 0.0932
    assert values[..., -1].max() < 1e-5
    assert near_polar(torch.zeros(2, 4, 3)).abs().max() == 0


@given(SEEDS)
def test_it_commutes_with_rotations_on_both_sides(seed: int) -> None:
    x, p, q = _conditioned(1e4, seed, 1.0), random_frame(12, 12, seed + 2), random_frame(5, 5, seed + 3)
    torch.testing.assert_close(near_polar(p @ x @ q), p @ near_polar(x) @ q, rtol=0, atol=1e-12)


def test_float32_gives_what_float64_does_to_rounding() -> None:
    x = _conditioned(30, 0, 1.0)
    torch.testing.assert_close(near_polar(x.float()).double(), near_polar(x), rtol=0, atol=1e-4)


def test_a_step_has_the_direction_of_the_polar_factor_and_the_length_of_the_matrix_moment() -> None:
    start = random_frame(12, 5, 0, batch=3)
    gradients = torch.randn(4, 3, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moves = []
    for moment in ("matrix", "polar"):
        point = geoopt.ManifoldParameter(start.clone(), manifold=MANIFOLD)
        # Moments decay at once, so that only the last gradient counts
        optimizer = sr.RiemannianAdam([point], lr=0.0, betas=(0.5, 0.9), moment=moment)
        for gradient in gradients:
            point.grad = gradient.clone()
            optimizer.step()
        optimizer.param_groups[0]["lr"] = 1e-6
        point.grad = torch.zeros_like(point)
        optimizer.step()
        moves.append((point.detach() - start, optimizer.state[point]["exp_avg"]))
    (matrix, _), (polar, momentum) = moves
    wanted = -MANIFOLD.proju(start, nearest_frame(momentum))
    lengths = [torch.linalg.matrix_norm(move) for move in (matrix, polar, wanted)]
    torch.testing.assert_close(lengths[1], lengths[0], rtol=1e-4, atol=0)
    scaled = wanted * (lengths[1] / lengths[2])[:, None, None]
    assert torch.linalg.matrix_norm(polar - scaled).max() < 0.1 * lengths[1].min()
