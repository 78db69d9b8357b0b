"""The polar factor by matrix products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.frames import PolarStiefel
from sttp_riemann.frames.polar import inverse_sqrt, nearest_frame, polar
from tests.strategies import SEEDS, random_frame


def _polar_by_svd(x: torch.Tensor) -> torch.Tensor:
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    return u @ vh


@given(SEEDS, st.sampled_from([0.0, 1e-4, 1e-1, 1.0, 10.0, 1e3]))
def test_polar_is_the_factor_of_the_svd_after_steps_of_any_length(seed: int, length: float) -> None:
    x = random_frame(12, 5, seed, batch=3)
    x = x + length * PolarStiefel().proju(x, random_frame(12, 5, seed + 1, batch=3))
    torch.testing.assert_close(polar(x), _polar_by_svd(x), rtol=1e-8, atol=1e-8)


def test_polar_commutes_with_rotations_on_both_sides() -> None:
    x = torch.eye(9, 4, dtype=torch.float64)
    x = x + PolarStiefel().proju(x, random_frame(9, 4, 0)[0])
    p, q = random_frame(9, 9, 1)[0], random_frame(4, 4, 2)[0]
    torch.testing.assert_close(polar(p @ x @ q), p @ polar(x) @ q, rtol=1e-12, atol=1e-12)


def test_inverse_sqrt_is_the_definition() -> None:
    x = random_frame(7, 7, 0)[0] * torch.linspace(0.75, 2, 7, dtype=torch.float64)
    gram = x @ x.mT
    z = inverse_sqrt(gram)
    torch.testing.assert_close(z @ gram @ z, torch.eye(7, dtype=torch.float64))


def test_polar_of_a_nan_names_the_remedy() -> None:
    with pytest.raises(ValueError, match="lower the learning rate"):
        polar(torch.full((1, 4, 2), float("nan")))


@given(SEEDS, st.integers(-8, 8))
def test_nearest_frame_is_the_polar_factor_at_any_scale(seed: int, exponent: int) -> None:
    x = torch.randn(2, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(nearest_frame(10.0**exponent * x), _polar_by_svd(x), rtol=1e-8, atol=1e-8)


def test_nearest_frame_completes_dependent_columns() -> None:
    x = torch.zeros(1, 6, 3, dtype=torch.float64)
    x[0, 0, 0] = 2.0
    frame = nearest_frame(x)
    torch.testing.assert_close(frame.mT @ frame, torch.eye(3, dtype=torch.float64).unsqueeze(0))
    torch.testing.assert_close(frame[0, :, 0], torch.eye(6, dtype=torch.float64)[0])
