"""Growth of all bonds of a chain by the directions of a gradient."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from sttp_riemann.trains.growth import extend
from sttp_riemann.trains.shape import layer_shape
from tests.strategies import METHODS, SEEDS, layer_dimensions
from tests.trains.chains import factors, matrix, orthonormal, random_chain, smaller


def _gradient(d_out: int, d_in: int, seed: int) -> Tensor:
    return torch.randn(d_out, d_in, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))


@given(layer_dimensions(), METHODS, SEEDS)
def test_w_and_its_singular_pairs_stay_and_new_values_are_zero(dims: tuple, method: str, seed: int) -> None:
    wanted, shape = smaller(*dims, seed, method)
    chain = random_chain(shape, seed)
    grown = extend(chain, wanted, _gradient(shape.d_out, shape.d_in, seed)).chain
    torch.testing.assert_close(matrix(grown), matrix(chain), rtol=0, atol=1e-13)
    for new, old in zip(factors(grown), factors(chain), strict=True):
        torch.testing.assert_close(new[:, : shape.rank], old, rtol=0, atol=1e-12)
    assert torch.equal(grown.values[: shape.rank], chain.values)
    assert not grown.values[shape.rank :].any()
    assert grown.values.shape == (wanted.rank,)
    assert orthonormal(grown)


@given(layer_dimensions(), SEEDS)
def test_without_trains_new_pairs_are_the_largest_of_the_gradient_outside(dims: tuple, seed: int) -> None:
    wanted, shape = smaller(*dims, seed, "svdp")
    chain, gradient = random_chain(shape, seed), _gradient(shape.d_out, shape.d_in, seed)
    u, v = factors(chain)
    outside = (torch.eye(len(u)) - u @ u.mT) @ gradient @ (torch.eye(len(v)) - v @ v.mT)
    new = [f[:, shape.rank :] for f in factors(extend(chain, wanted, gradient).chain)]
    expected = torch.diag(torch.linalg.svdvals(outside)[: wanted.rank - shape.rank])
    torch.testing.assert_close(new[0].mT @ gradient @ new[1], expected, rtol=1e-9, atol=1e-9)


@given(layer_dimensions(), METHODS, SEEDS)
def test_the_gradient_is_diagonal_in_the_new_pairs_and_descends(dims: tuple, method: str, seed: int) -> None:
    wanted, shape = smaller(*dims, seed, method)
    chain, gradient = random_chain(shape, seed), _gradient(shape.d_out, shape.d_in, seed)
    new = [f[:, shape.rank :] for f in factors(extend(chain, wanted, gradient).chain)]
    of_values = new[0].mT @ gradient @ new[1]
    torch.testing.assert_close(of_values, torch.diag(of_values.diagonal()), rtol=0, atol=1e-9)
    assert (of_values.diagonal().diff() <= 1e-9).all()


@given(layer_dimensions(), METHODS, SEEDS)
def test_a_step_moves_w_as_far_against_the_gradient_in_all_new_pairs(dims: tuple, method: str, seed: int) -> None:
    wanted, shape = smaller(*dims, seed, method)
    chain, gradient = random_chain(shape, seed), _gradient(shape.d_out, shape.d_in, seed)
    grown = extend(chain, wanted, gradient, step=0.5).chain
    moved = matrix(grown) - matrix(chain)
    length = 0.5 * float(chain.values.abs().max())
    expected = torch.full((wanted.rank - shape.rank,), length, dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(moved)[: len(expected)], expected, rtol=1e-9, atol=1e-9)
    assert float((moved * gradient).sum()) <= 1e-9


@given(layer_dimensions(12), METHODS, SEEDS)
def test_at_full_rank_all_of_the_gradient_outside_is_taken_in(dims: tuple, method: str, seed: int) -> None:
    shape, _ = smaller(*dims, seed, method)
    chain, gradient = random_chain(shape, seed), _gradient(shape.d_out, shape.d_in, seed)
    u, v = factors(chain)
    outside = (torch.eye(len(u)) - u @ u.mT) @ gradient @ (torch.eye(len(v)) - v @ v.mT)
    full = layer_shape(*dims[:2], shape.d_out * shape.d_in, method)
    new_u, new_v = factors(extend(chain, full, gradient).chain)
    torch.testing.assert_close(new_u @ (new_u.mT @ outside @ new_v) @ new_v.mT, outside, rtol=0, atol=1e-9)
