"""Ranks that change at intervals, to a budget."""

from __future__ import annotations

import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.model.measures import layer_ranks
from sttp_riemann.testing.models import layers_of
from tests.model.ranking import dense_network, network, train_steps

SAME = 1e-12


def test_registered_changes_end_within_the_budget_from_any_first_rank() -> None:
    ends = {}
    for rank in (1, 4, 12):
        model = network(rank=rank)
        optimizer = sr.RiemannianAdam(model.parameters(), lr=3e-2)
        handle = sr.register_rank_change(model, optimizer, budget=0.5, until=40, every=5)
        train_steps(model, optimizer, range(45))
        ends[rank] = sr.compression(model).ratio
        assert len(handle.changes) == (15 if rank == 12 else 17)
        assert all(layer.application == "auto" for layer in layers_of(model))
    assert max(ends.values()) <= 50
    assert min(ends.values()) > 40


@pytest.mark.parametrize("rank", [2, 12])
def test_ranks_below_their_share_grow_to_what_shrinking_leaves_of_equal_values(rank: int) -> None:
    model, full = network(rank=rank), sr.reparameterize(dense_network(), rank=1.0)
    with torch.no_grad():
        for layer in layers_of(full):
            layer.spectrum.fill_(1)
    sr.shrink_ranks(full, budget=0.5)
    share = layer_ranks(full)
    sr.register_rank_change(model, optimizer := sr.RiemannianAdam(model.parameters()), budget=0.5, until=40, every=20)
    train_steps(model, optimizer, range(1))
    assert layer_ranks(model) == ({n: max(own, 3) for n, own in share.items()} if rank == 2 else {"0": 12, "2": 12})


def test_registered_changes_take_a_step_with_the_growth_after_the_first_step_alone() -> None:
    model = network(rank=2)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    handle = sr.register_rank_change(model, optimizer, budget=0.5, until=20, every=5, step=1.0)
    train_steps(model, optimizer, range(11))
    first, later = handle.changes[1], handle.changes[3]
    assert all(row.moved > 0.1 for row in first.layers)
    assert all(row.moved < SAME for row in later.layers)
