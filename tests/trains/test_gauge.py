"""Gauge fixing by sweeps, on bare cores."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.gauge import sweep, triangularizing_rotation
from sttp_riemann.trains.shape import absorb, layer_shape
from tests.strategies import SEEDS, layer_dimensions, random_frame


@given(st.integers(1, 8), SEEDS)
def test_the_rotation_is_orthogonal_and_makes_the_block_triangular(rank: int, seed: int) -> None:
    block = torch.randn(3, rank, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q = triangularizing_rotation(block)
    torch.testing.assert_close(q.mT @ q, torch.eye(rank, dtype=torch.float64).expand(3, -1, -1))
    triangular = block @ q
    assert triangular.tril(-1).abs().max() < 1e-12
    assert (triangular.diagonal(dim1=-2, dim2=-1) > 0).all()


@given(layer_dimensions(), st.booleans(), SEEDS)
def test_a_sweep_lands_in_st_u_and_keeps_what_the_train_contracts_to(
    dimensions: tuple[int, tuple[int, ...], int], identity: bool, seed: int
) -> None:
    shape = layer_shape(*dimensions, "sttp", identity)
    for train in (shape.left, shape.right):
        if not train.cores:
            continue
        cores = [random_frame(c.rows, c.inner, seed + k, batch=2) for k, c in enumerate(train.cores)]
        before = contract(train, cores, cores[0]).clone()
        passed = sweep(train, cores, [()] * len(cores))[-1].inner
        for core, matrix in zip(train.cores, cores, strict=True):
            if core.reduced:
                assert matrix[:, : core.inner].tril(-1).abs().max() == 0
        after = contract(train, cores, cores[0])
        torch.testing.assert_close(after, before if passed is None else before @ passed)


@given(layer_dimensions(), SEEDS)
def test_a_sweep_is_idempotent_and_independent_of_the_gauge_before(
    dimensions: tuple[int, tuple[int, ...], int], seed: int
) -> None:
    train = layer_shape(*dimensions).right
    cores = [random_frame(c.rows, c.inner, seed + k) for k, c in enumerate(train.cores)]
    moved = [c.clone() for c in cores]
    for k in range(len(cores) - 1):
        q = random_frame(train.cores[k].inner, train.cores[k].inner, seed + 99 + k)
        moved[k] = moved[k] @ q
        moved[k + 1] = absorb(q, moved[k + 1], train.cores[k + 1].outer_first)
    torch.testing.assert_close(contract(train, moved, cores[0]), contract(train, cores, cores[0]))
    for version in (cores, moved):
        sweep(train, version, [()] * len(version))
    for a, b in zip(cores, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
