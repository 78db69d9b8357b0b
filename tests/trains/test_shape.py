"""The chain of modes, its ranks and degrees of freedom, contraction."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.trains import contraction
from sttp_riemann.trains.contraction import contract, trace_contract
from sttp_riemann.trains.shape import LayerShape, bond_ranks, layer_shape, prime_factors
from tests.strategies import METHODS, SEEDS, layer_dimensions, random_frame


@given(st.integers(1, 10**6))
def test_prime_factors_multiply_to_the_number_and_ascend(n: int) -> None:
    factors = prime_factors(n)
    assert math.prod(factors) == n
    assert list(factors) == sorted(factors)
    assert factors == (1,) or all(f > 1 and all(f % d for d in range(2, math.isqrt(f) + 1)) for f in factors)


@pytest.mark.parametrize("n", [0, -3])
def test_a_dimension_below_one_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"positive integer, got {n}"):
        prime_factors(n)


def test_the_chain_of_a_convolution_is_out_primes_then_in_primes_then_kernel() -> None:
    shape = layer_shape(12, (10, 3, 3), 4)
    assert shape.modes == (2, 2, 3, 2, 5, 9)
    assert shape.ranks == (1, 2, 4, 4, 4, 4, 1)


@pytest.mark.parametrize(
    ("kernel", "modes"),
    [
        ((3, 3), (3, 3)),
        ((6, 4), (2, 3, 2, 2)),
        ((4, 6), (2, 2, 2, 3)),
        ((1, 10, 1), (2, 5)),
        ((1, 1), ()),
        ((9,), (3, 3)),
    ],
)
def test_prime_kernel_modes_are_the_factors_of_each_side_by_itself(
    kernel: tuple[int, ...], modes: tuple[int, ...]
) -> None:
    """Side after side in the order of the weight, so that a mode never mixes rows with columns of the kernel."""
    assert layer_shape(12, (10, *kernel), 4, kernel_modes="prime").modes == (2, 2, 3, 2, 5, *modes)


def test_modes_of_size_one_are_dropped_unless_they_are_all_there_is() -> None:
    assert layer_shape(1, (128,), 8).modes == (1,) + (2,) * 7
    assert layer_shape(4, (1, 3, 3), 8).modes == (2, 2, 9)
    assert layer_shape(4, (1,), 8).modes == (2, 2, 1)
    assert layer_shape(4, (6, 1, 1), 8).modes == (2, 2, 2, 3)


@given(layer_dimensions())
def test_each_bond_has_the_rank_of_the_definition(dimensions: tuple[int, tuple[int, ...], int]) -> None:
    d_out, d_in, rank = dimensions
    shape = layer_shape(d_out, d_in, rank)
    for k, bond in enumerate(shape.ranks):
        assert bond == min(math.prod(shape.modes[:k]), math.prod(shape.modes[k:]), rank)
    assert shape.rank == min(d_out, math.prod(d_in), rank)
    assert bond_ranks((2, 3), (5,), 4) == (1, 2, 4, 1)


@given(layer_dimensions(), st.booleans())
def test_dof_of_sttp_is_that_of_all_cores_identities_included(
    dimensions: tuple[int, tuple[int, ...], int], identity: bool
) -> None:
    d_out, d_in, rank = dimensions
    shape = layer_shape(d_out, d_in, rank, "sttp", identity)
    modes, ranks, cut = shape.modes, shape.ranks, len(prime_factors(d_out))
    total = 0
    for k, n in enumerate(modes):
        if k < cut:
            rows, inner = ranks[k] * n, ranks[k + 1]
            in_st_u = k != cut - 1 or identity
        else:
            rows, inner = n * ranks[k + 1], ranks[k]
            in_st_u = k != cut
        total += (rows - inner) * inner if in_st_u else rows * inner - inner * (inner + 1) // 2
    assert shape.dof(False) == total
    assert shape.dof(True) == total + shape.rank


@given(layer_dimensions())
def test_dof_of_learned_sttp_is_the_closed_formula(dimensions: tuple[int, tuple[int, ...], int]) -> None:
    d_out, d_in, rank = dimensions
    shape = layer_shape(d_out, d_in, rank)
    cores = sum(shape.ranks[k] * n * shape.ranks[k + 1] for k, n in enumerate(shape.modes))
    assert shape.dof(True) == cores - sum(r * r for r in shape.ranks[1:-1])


@given(layer_dimensions(), METHODS, SEEDS)
def test_contraction_of_orthonormal_cores_is_orthonormal(
    dimensions: tuple[int, tuple[int, ...], int], method: str, seed: int
) -> None:
    shape = layer_shape(*dimensions, method)
    for train in (shape.left, shape.right):
        cores = [random_frame(c.rows, c.inner, seed + k, batch=2) for k, c in enumerate(train.cores)]
        frame = contract(train, cores, like=torch.zeros((), dtype=torch.float64))
        assert frame.shape[1:] == (train.dim, train.rank)
        torch.testing.assert_close(
            frame.mT @ frame, torch.eye(train.rank, dtype=torch.float64).expand(len(frame), -1, -1)
        )


def test_contraction_is_the_entrywise_sum_over_bonds() -> None:
    shape = layer_shape(12, (8,), 3)
    left = [random_frame(c.rows, c.inner, k) for k, c in enumerate(shape.left.cores)]
    # modes 2, 2, 3 with ranks 1, 2, 3, 3; the first core is the identity and left out
    first, second = (m[0].reshape(c.outer, c.mode, c.inner) for m, c in zip(left, shape.left.cores, strict=True))
    expected = torch.einsum("abc,cde->abde", first, second).reshape(12, 3)
    torch.testing.assert_close(contract(shape.left, left, left[0])[0], expected)
    right = [random_frame(c.rows, c.inner, k) for k, c in enumerate(shape.right.cores)]
    # modes 2, 2, 2 with ranks 3, 3, 2, 1; the last core is the identity: its mode is the outer rank of the one kept
    inner, outer = (
        m[0].reshape(c.mode, c.outer, c.inner) for m, c in zip(right[::-1], shape.right.cores[::-1], strict=True)
    )
    assert outer.shape == (2, 2, 3)
    expected = torch.einsum("mai,nba->mnbi", inner, outer).reshape(8, 3)
    torch.testing.assert_close(contract(shape.right, right, right[0])[0], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4, (4,), 0), "rank must be at least 1"), ((4, (4,), 2, "cp"), "unknown method 'cp'")],
)
def test_impossible_shapes_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_shape(*arguments)


def test_unknown_kernel_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kernel_modes 'square'"):
        layer_shape(4, (4,), 2, kernel_modes="square")


@given(layer_dimensions(), st.sampled_from(["sttp", "svdp"]), st.sampled_from([0, contraction.KEPT]))
def test_the_written_way_back_of_a_contraction_is_autograds_whether_it_keeps_partial_products_or_not(
    dimensions: tuple[int, tuple[int, ...], int], method: str, kept: int
) -> None:
    shape = layer_shape(*dimensions, method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contraction, "KEPT", kept)
        _compare_ways_back(shape)


def _compare_ways_back(shape: LayerShape) -> None:
    for train in (shape.left, shape.right):
        cores = [torch.randn(2, c.rows, c.inner, dtype=torch.float64, requires_grad=True) for c in train.cores]
        like = torch.zeros((), dtype=torch.float64)
        frames, pull = trace_contract(train, [core.detach() for core in cores], like)
        expected = contract(train, cores, like)
        assert torch.equal(frames, expected.detach())
        if cores:
            grad = torch.randn_like(expected)
            for own, gradient in zip(pull(grad), torch.autograd.grad(expected, cores, grad), strict=True):
                torch.testing.assert_close(own, gradient)
