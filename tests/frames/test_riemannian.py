"""`PolarStiefel` as a manifold: the properties that geoopt tests its manifolds with."""

from __future__ import annotations

import copy
import pickle

import geoopt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import PolarStiefel, RiemannianFrames
from sttp_riemann.trains.shape import Core
from tests.strategies import SEEDS, random_frame

MANIFOLD = PolarStiefel()


def _point_and_vectors(seed: int, rows: int = 7, rank: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = random_frame(rows, rank, seed, batch=2)
    generator = torch.Generator().manual_seed(seed + 1)
    u, v = (torch.randn(x.shape, dtype=x.dtype, generator=generator) for _ in range(2))
    return x, u, v


@given(SEEDS, st.integers(1, 6))
def test_projection_of_points_lands_on_the_manifold_and_is_idempotent(seed: int, rank: int) -> None:
    _, u, _ = _point_and_vectors(seed, 6, rank)
    x = MANIFOLD.projx(u)
    MANIFOLD.assert_check_point_on_manifold(x)
    torch.testing.assert_close(MANIFOLD.projx(x), x)


@given(SEEDS)
def test_projection_of_points_is_geoopts_by_svd(seed: int) -> None:
    _, u, _ = _point_and_vectors(seed)
    torch.testing.assert_close(MANIFOLD.projx(u), geoopt.EuclideanStiefel().projx(u), rtol=1e-7, atol=1e-7)


@given(SEEDS)
def test_projection_of_vectors_is_tangent_idempotent_and_geoopts(seed: int) -> None:
    x, u, _ = _point_and_vectors(seed)
    tangent = MANIFOLD.proju(x, u)
    MANIFOLD.assert_check_vector_on_tangent(x, tangent)
    torch.testing.assert_close(MANIFOLD.proju(x, tangent), tangent)
    torch.testing.assert_close(tangent, geoopt.EuclideanStiefel().proju(x, u))


@given(SEEDS)
def test_riemannian_gradient_represents_the_differential(seed: int) -> None:
    x, egrad, v = _point_and_vectors(seed)
    v = MANIFOLD.proju(x, v)
    rgrad = MANIFOLD.egrad2rgrad(x, egrad)
    torch.testing.assert_close(MANIFOLD.inner(x, rgrad, v), (egrad * v).sum((-1, -2)))


@given(SEEDS, st.floats(1e-3, 30))
def test_retraction_stays_on_the_manifold(seed: int, length: float) -> None:
    x, u, _ = _point_and_vectors(seed)
    MANIFOLD.assert_check_point_on_manifold(MANIFOLD.retr(x, length * MANIFOLD.proju(x, u)))


@given(SEEDS)
def test_retraction_agrees_with_the_exponential_map_to_second_order(seed: int) -> None:
    x, u, _ = _point_and_vectors(seed)
    u = MANIFOLD.proju(x, u)
    u = u / u.norm()
    exponential = geoopt.EuclideanStiefelExact()
    errors = [(MANIFOLD.retr(x, t * u) - exponential.retr(x, t * u)).norm() for t in (1e-2, 1e-3)]
    assert errors[1] < 2e-3 * errors[0] + 1e-14
    slope = (MANIFOLD.retr(x, 1e-6 * u) - x) / 1e-6
    torch.testing.assert_close(slope, u, rtol=1e-5, atol=1e-5)


@given(SEEDS)
def test_retraction_of_the_zero_vector_is_the_point(seed: int) -> None:
    x, _, _ = _point_and_vectors(seed)
    torch.testing.assert_close(MANIFOLD.retr(x, torch.zeros_like(x)), x)


@given(SEEDS)
def test_transport_is_tangent_at_the_end_and_linear(seed: int) -> None:
    x, u, v = _point_and_vectors(seed)
    u, v = MANIFOLD.proju(x, u), MANIFOLD.proju(x, v)
    y, moved = MANIFOLD.retr_transp(x, u, v)
    torch.testing.assert_close(y, MANIFOLD.retr(x, u))
    MANIFOLD.assert_check_vector_on_tangent(y, moved)
    torch.testing.assert_close(moved, MANIFOLD.transp(x, y, v))
    torch.testing.assert_close(moved, MANIFOLD.transp_follow_retr(x, u, v))
    torch.testing.assert_close(MANIFOLD.transp(x, y, 2 * v + u), 2 * moved + MANIFOLD.transp(x, y, u))
    torch.testing.assert_close(MANIFOLD.transp(x, x, v), v)


@given(SEEDS)
def test_every_verb_commutes_with_a_change_of_basis(seed: int) -> None:
    x, u, v = _point_and_vectors(seed)
    q = random_frame(3, 3, seed + 2)
    tangent = MANIFOLD.proju(x, u)
    torch.testing.assert_close(MANIFOLD.proju(x @ q, u @ q), tangent @ q)
    torch.testing.assert_close(MANIFOLD.retr(x @ q, tangent @ q), MANIFOLD.retr(x, tangent) @ q)
    torch.testing.assert_close(MANIFOLD.transp(x @ q, x @ q, v @ q), MANIFOLD.transp(x, x, v) @ q)


def test_random_points_are_on_the_manifold() -> None:
    MANIFOLD.assert_check_point_on_manifold(MANIFOLD.random(5, 8, 3, dtype=torch.float64))


def test_the_retraction_corrects_a_point_that_has_drifted() -> None:
    x = random_frame(8, 3, 0)
    drifted = x + 1e-3 * torch.randn_like(x)
    y = MANIFOLD.retr(drifted, torch.zeros_like(x))
    torch.testing.assert_close(y.mT @ y, torch.eye(3, dtype=torch.float64).unsqueeze(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_frame_is_a_manifold_parameter(dtype: torch.dtype) -> None:
    frames = random_frame(8, 3, 0, batch=4, dtype=dtype)
    held = RiemannianFrames([Core(1, 8, 3, reduced=False)] * 4, list(frames))
    assert [name for name, _ in held.named_parameters()] == ["0", "1", "2", "3"]
    for k, point in enumerate(held.parameters()):
        assert isinstance(point, geoopt.ManifoldParameter)
        torch.testing.assert_close(held.frame(k, dtype).detach(), frames[k])


def _outer_ranks(model: nn.Module) -> list[tuple[int, bool]]:
    return [(p.manifold.outer, p.manifold.outer_first) for p in model.parameters() if hasattr(p, "manifold")]


def test_the_outer_rank_of_a_core_goes_where_its_frame_goes() -> None:
    model = sr.reparameterize(nn.Linear(36, 24), 6)
    wanted = [(4, True), (6, True), (3, False), (6, False), (6, False)]
    assert _outer_ranks(model) == wanted
    assert _outer_ranks(copy.deepcopy(model)) == wanted
    assert _outer_ranks(pickle.loads(pickle.dumps(model))) == wanted
    assert _outer_ranks(model.double()) == wanted
    other = sr.reparameterize(nn.Linear(36, 24), 6).double()
    other.load_state_dict(model.state_dict(), assign=True)
    assert _outer_ranks(other) == wanted
    sr.convert_frames(model, "householder")
    assert _outer_ranks(model) == []
    sr.convert_frames(model, "riemannian")
    assert _outer_ranks(model) == wanted


@pytest.mark.parametrize("outer", [0, -1, 2.5, True, "2"])
def test_outer_ranks_that_are_no_whole_numbers_are_refused(outer: object) -> None:
    with pytest.raises(ValueError, match="outer must be a whole number above 0"):
        PolarStiefel(outer)  # type: ignore[arg-type]
