"""TT-SVD: exact where the ranks suffice, and near the best where they do not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given

from sttp_riemann.trains import svd
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.shape import layer_shape
from sttp_riemann.trains.svd import LARGE, RIDGE, leading_svd, moment_root, tt_svd
from tests.strategies import METHODS, SEEDS, layer_dimensions, random_frame


@given(layer_dimensions(12), METHODS, SEEDS)
def test_tt_svd_is_exact_at_full_rank(dimensions: tuple[int, tuple[int, ...], int], method: str, seed: int) -> None:
    d_out, d_in, _ = dimensions
    shape = layer_shape(d_out, d_in, 10**4, method)
    weight = torch.randn(d_out, math.prod(d_in), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rebuilt = _rebuild(shape, *tt_svd(weight, shape))
    torch.testing.assert_close(rebuilt, weight)


@given(layer_dimensions(12), METHODS, SEEDS)
def test_tt_svd_recovers_a_matrix_that_has_the_ranks(
    dimensions: tuple[int, tuple[int, ...], int], method: str, seed: int
) -> None:
    shape = layer_shape(*dimensions, method)
    left = [random_frame(c.rows, c.inner, seed + k) for k, c in enumerate(shape.left.cores)]
    right = [random_frame(c.rows, c.inner, seed + 50 + k) for k, c in enumerate(shape.right.cores)]
    values = torch.linspace(2, 1, shape.rank, dtype=torch.float64)
    u, v = (contract(t, c, values)[0] for t, c in ((shape.left, left), (shape.right, right)))
    weight = (u * values) @ v.mT
    torch.testing.assert_close(_rebuild(shape, *tt_svd(weight, shape)), weight)


def test_tt_svd_with_one_core_a_side_is_the_truncated_svd() -> None:
    weight = torch.randn(9, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shape = layer_shape(9, (14,), 4, "svdp")
    error = (weight - _rebuild(shape, *tt_svd(weight, shape))).norm()
    torch.testing.assert_close(error, torch.linalg.svdvals(weight)[4:].norm())


def test_tt_svd_errs_at_most_by_the_sum_over_bonds_of_what_each_cuts_off() -> None:
    shape = layer_shape(16, (16,), 3)
    weight = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = (weight - _rebuild(shape, *tt_svd(weight, shape))).norm()
    cut_off = 0.0
    for k in range(1, len(shape.modes)):
        rows = math.prod(shape.modes[:k])
        cut_off += float((torch.linalg.svdvals(weight.reshape(rows, -1))[shape.ranks[k] :] ** 2).sum())
    # the cores are found from the truncated SVD of W, which adds one more truncation at the spectrum
    assert error**2 <= cut_off + float((torch.linalg.svdvals(weight)[3:] ** 2).sum()) + 1e-9


def _decaying(power: float, size: tuple[int, int] = (LARGE, 300), seed: int = 0) -> torch.Tensor:
    """A random matrix whose singular values fall like a power of their number; none falls for the power 0."""
    values = torch.arange(1, size[0] + 1, dtype=torch.float64) ** -power
    left, right = random_frame(size[0], size[0], seed)[0], random_frame(size[1], size[0], seed + 1)[0]
    return left * values @ right.mT


@pytest.mark.parametrize("rank", [1, 8, 40])
@pytest.mark.parametrize("power", [0.0, 0.2, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("turned", [False, True])
def test_the_leading_part_of_a_large_matrix_errs_by_a_thousandth_more_than_the_best(power, rank, turned) -> None:
    matrix = _decaying(power).mT if turned else _decaying(power)
    u, s, v = leading_svd(matrix, rank)
    best = torch.linalg.svdvals(matrix)[rank:].norm()
    assert (matrix - (u * s) @ v.mT).norm() <= 1.001 * best
    for frame in (u, v):
        torch.testing.assert_close(frame.mT @ frame, torch.eye(rank, dtype=frame.dtype))
    assert (s[:-1] >= s[1:]).all()


def test_a_large_matrix_of_low_rank_is_recovered() -> None:
    matrix = _decaying(1.0)[:, :7] @ _decaying(1.0)[:7]
    u, s, v = leading_svd(matrix, 7)
    torch.testing.assert_close((u * s) @ v.mT, matrix)


def test_a_large_matrix_of_zeros_has_frames_all_the_same() -> None:
    u, s, _ = leading_svd(torch.zeros(LARGE, LARGE, dtype=torch.float64), 4)
    assert not s.any()
    torch.testing.assert_close(u.mT @ u, torch.eye(4, dtype=torch.float64))


def test_what_does_not_settle_is_decomposed_in_full(monkeypatch) -> None:
    monkeypatch.setattr(svd, "ROUNDS", 1)
    matrix = _decaying(0.5)
    torch.testing.assert_close(leading_svd(matrix, 8)[1], torch.linalg.svdvals(matrix)[:8], rtol=1e-12, atol=0)


def test_the_leading_part_is_the_same_in_every_call() -> None:
    torch.manual_seed(1)
    first = leading_svd(_decaying(0.5), 8)
    torch.manual_seed(2)
    assert all(map(torch.equal, first, leading_svd(_decaying(0.5), 8)))


def test_tt_svd_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        tt_svd(torch.tensor([[float("nan"), 1.0]]), layer_shape(1, (2,), 1))


def _rebuild(shape, left, values, right) -> torch.Tensor:
    like = torch.zeros((), dtype=torch.float64)
    u = contract(shape.left, [c.unsqueeze(0) for c in left], like)[0]
    v = contract(shape.right, [c.unsqueeze(0) for c in right], like)[0]
    return (u * values) @ v.mT


@given(layer_dimensions(10), SEEDS)
def test_with_one_core_a_side_the_error_of_outputs_is_the_least_possible(
    dimensions: tuple[int, tuple[int, ...], int], seed: int
) -> None:
    shape = layer_shape(*dimensions, "svdp")
    weight, root = _weight_and_root(dimensions, seed)
    error = ((weight - _rebuild(shape, *tt_svd(weight, shape, root))) @ root).norm()
    least = torch.linalg.svdvals(weight @ root)[shape.rank :].norm()
    torch.testing.assert_close(error, least, rtol=1e-6, atol=1e-8)


@given(layer_dimensions(10), METHODS, SEEDS)
def test_at_full_rank_a_moment_changes_nothing(
    dimensions: tuple[int, tuple[int, ...], int], method: str, seed: int
) -> None:
    d_out, d_in, _ = dimensions
    shape = layer_shape(d_out, d_in, 10**4, method)
    weight, root = _weight_and_root(dimensions, seed)
    torch.testing.assert_close(_rebuild(shape, *tt_svd(weight, shape, root)), weight, rtol=1e-6, atol=1e-8)


@given(layer_dimensions(10), METHODS, SEEDS)
def test_inputs_that_are_alike_in_all_directions_change_nothing(
    dimensions: tuple[int, tuple[int, ...], int], method: str, seed: int
) -> None:
    shape = layer_shape(*dimensions, method)
    weight, _ = _weight_and_root(dimensions, seed)
    eye = torch.eye(weight.shape[1], dtype=torch.float64)
    plain, weighed = (_rebuild(shape, *tt_svd(weight, shape, root)) for root in (None, 3 * eye))
    torch.testing.assert_close(weighed, plain)


def _weight_and_root(dimensions: tuple[int, tuple[int, ...], int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    d_out, d_in, _ = dimensions
    generator, columns = torch.Generator().manual_seed(seed), math.prod(d_in)
    weight = torch.randn(d_out, columns, dtype=torch.float64, generator=generator)
    # Fewer inputs than columns: the moment itself is singular
    inputs = torch.randn(max(1, columns // 2), columns, dtype=torch.float64, generator=generator)
    return weight, moment_root(inputs.mT @ inputs)


def test_the_root_of_a_moment_is_its_factor_a_little_lifted() -> None:
    inputs = torch.randn(3, 8, dtype=torch.float64)
    moment = inputs.mT @ inputs
    root = moment_root(moment)
    lifted = moment + RIDGE * moment.diagonal().mean() * torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(root @ root.mT, lifted)
    assert torch.equal(moment_root(torch.zeros(4, 4)), torch.eye(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="the moment holds NaN or infinite values"):
        moment_root(torch.full((2, 2), math.nan))
