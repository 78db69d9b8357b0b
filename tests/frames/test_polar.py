"""The polar factor by matrix products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttp_riemann.frames import PolarStiefel
from sttp_riemann.frames.polar import LONGEST, bounded_polar, nearest_frame, polar
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


def test_polar_of_a_nan_names_the_remedy() -> None:
    with pytest.raises(ValueError, match="lower the learning rate"):
        polar(torch.full((1, 4, 2), float("nan")))


@st.composite
def frames_and_steps(draw: st.DrawFn, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of any shape, and tangent steps of spectral norms from 1e-6 to 1e12."""
    rows = draw(st.integers(1, 40))
    rank = draw(st.integers(1, rows))
    seed, length = draw(SEEDS), 10 ** draw(st.floats(-6, 12))
    x = random_frame(rows, rank, seed, batch=3)
    u = PolarStiefel().proju(x, random_frame(rows, rank, seed + 1, batch=3))
    u = u * (length / torch.linalg.matrix_norm(u, ord=2, keepdim=True).clamp_min(1e-12))
    return x.to(dtype), u.to(dtype)


def _orthogonality_error(x: torch.Tensor) -> float:
    x = x.double()
    return float((x.mT @ x - torch.eye(x.shape[-1], dtype=torch.float64)).abs().max())


def _retracted(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return PolarStiefel().retr(x, u)


def _moved(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    point = x.clone()
    PolarStiefel().move_(point, u, torch.ones(()))
    return point


def _factored(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return polar(x + u)


@pytest.mark.parametrize("way", [_retracted, _moved, _factored])
@settings(max_examples=100)
@given(frames_and_steps(torch.float32))
def test_a_step_of_any_length_ends_orthonormal(way, frame_and_step) -> None:
    assert _orthogonality_error(way(*frame_and_step)) < 1e-6


@pytest.mark.parametrize("shape", [(8, 128, 64), (40, 16, 8), (2, 640, 64), (1, 200, 200)])
@pytest.mark.parametrize("length", [1e-6, 1e-2, 0.1, 0.3, 1.0, 1e3, 1e4, 1e12])
def test_a_step_of_a_large_frame_ends_orthonormal(shape: tuple[int, int, int], length: float) -> None:
    x = random_frame(*shape[1:], 0, batch=shape[0], dtype=torch.float32)
    u = PolarStiefel().proju(x, torch.randn(shape))
    assert _orthogonality_error(_retracted(x, length * u / torch.linalg.matrix_norm(u, ord=2, keepdim=True))) < 1e-6


@pytest.mark.parametrize("way", [_retracted, _moved])
@settings(max_examples=100)
@given(frames_and_steps(torch.float32))
def test_a_step_of_any_length_is_exact_to_the_rounding_of_its_result(way, frame_and_step) -> None:
    x, u = frame_and_step
    wide = x.double() + u.double()
    singular = torch.linalg.svdvals(wide)
    condition = float((singular[:, 0] / singular[:, -1]).max())
    # What the definition itself loses in float64
    allowed = 3e-7 + 1e-15 * condition
    torch.testing.assert_close(way(x, u).double(), _polar_by_svd(wide), rtol=0, atol=allowed)


@settings(max_examples=100)
@given(frames_and_steps(torch.float64))
def test_a_step_of_any_length_is_orthonormal_to_rounding_in_float64(frame_and_step) -> None:
    assert _orthogonality_error(_retracted(*frame_and_step)) < 1e-13


@settings(max_examples=60)
@given(frames_and_steps(torch.float32), SEEDS)
def test_a_step_of_any_length_commutes_with_rotations_on_both_sides(frame_and_step, seed: int) -> None:
    x, u = (tensor.double() for tensor in frame_and_step)
    singular = torch.linalg.svdvals(x + u)
    condition = float((singular[:, 0] / singular[:, -1]).max())
    p, q = random_frame(x.shape[1], x.shape[1], seed)[0], random_frame(x.shape[2], x.shape[2], seed + 1)[0]
    turned = _retracted(p @ x @ q, p @ u @ q)
    torch.testing.assert_close(turned, p @ _retracted(x, u) @ q, rtol=0, atol=1e-13 + 1e-14 * condition)


def _bounded(x: torch.Tensor, u: torch.Tensor, longest: float) -> torch.Tensor:
    """A step of a known largest length, as optimizers take it."""
    point = x.clone()
    PolarStiefel().move_(point, u, torch.ones((), dtype=x.dtype), longest=longest)
    return point


def _of_length(frame_and_step: tuple[torch.Tensor, torch.Tensor], length: float) -> tuple[torch.Tensor, torch.Tensor]:
    x, u = frame_and_step
    return x, u * (length / torch.linalg.matrix_norm(u, keepdim=True).clamp_min(1e-12))


@settings(max_examples=100)
@given(frames_and_steps(torch.float32), st.floats(0, LONGEST), st.floats(0, 1))
def test_a_step_of_a_known_largest_length_ends_orthonormal_unseen(frame_and_step, longest: float, part: float) -> None:
    x, u = _of_length(frame_and_step, part * longest)
    assert _orthogonality_error(_bounded(x, u, longest)) < 5e-6


@settings(max_examples=100)
@given(frames_and_steps(torch.float64), st.floats(0, LONGEST), st.floats(0, 1))
def test_a_step_of_a_known_largest_length_is_the_polar_factor(frame_and_step, longest: float, part: float) -> None:
    x, u = _of_length(frame_and_step, part * longest)
    torch.testing.assert_close(_bounded(x, u, longest), _polar_by_svd(x + u), rtol=0, atol=1e-12)


@given(frames_and_steps(torch.float64), st.floats(1, 100))
def test_a_step_longer_than_was_known_gets_to_the_same_frame_in_later_ones(frame_and_step, times: float) -> None:
    x, u = _of_length(frame_and_step, 0.1 * times)
    moved = x + u
    for _ in range(12):
        moved = bounded_polar(moved, 0.1)
    torch.testing.assert_close(moved, _polar_by_svd(x + u), rtol=0, atol=1e-10)


def test_a_step_of_a_known_length_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_frame(6, 3, 0, batch=2, dtype=torch.float32)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda _: pytest.fail("a number was read back"))
    _bounded(x, torch.zeros_like(x), LONGEST)


def test_a_long_step_takes_no_factorization(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_frame(12, 5, 0, dtype=torch.float32)
    u = PolarStiefel().proju(x, torch.randn(1, 12, 5))
    for name in ("qr", "svd", "eigh"):
        monkeypatch.delattr(torch.linalg, name)
    assert all(_orthogonality_error(_retracted(x, length * u)) < 1e-6 for length in (1e-3, 1.0, 1e6, 1e12))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_refused_and_the_point_stays(value: float) -> None:
    x = random_frame(6, 3, 0, dtype=torch.float32)
    before, u = x.clone(), torch.zeros_like(x)
    u[0, 1, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite values; lower the learning rate"):
        PolarStiefel().move_(x, u, torch.ones(()))
    assert torch.equal(x, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_has_no_nearest_frame(value: float) -> None:
    x = torch.randn(2, 6, 3)
    x[1, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite values"):
        PolarStiefel().projx(x)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_nearest_frame_is_orthonormal_in_float32_at_any_scale(scale: float) -> None:
    assert _orthogonality_error(nearest_frame(scale * torch.randn(2, 40, 30))) < 1e-6


@given(SEEDS, st.integers(-300, 300))
def test_nearest_frame_is_the_polar_factor_at_any_scale(seed: int, exponent: int) -> None:
    x = torch.randn(2, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(nearest_frame(10.0**exponent * x), _polar_by_svd(x), rtol=1e-8, atol=1e-8)


def test_nearest_frame_completes_dependent_columns() -> None:
    x = torch.zeros(1, 6, 3, dtype=torch.float64)
    x[0, 0, 0] = 2.0
    frame = nearest_frame(x)
    torch.testing.assert_close(frame.mT @ frame, torch.eye(3, dtype=torch.float64).unsqueeze(0))
    torch.testing.assert_close(frame[0, :, 0], torch.eye(6, dtype=torch.float64)[0])
