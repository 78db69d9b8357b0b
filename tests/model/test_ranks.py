"""Ranks of layers: fractions, mappings and budgets."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from hypothesis import given
from torch import nn

import sttp_riemann as sr
from sttp_riemann.model.ranks import Dimensions, budget_ranks
from tests.strategies import METHODS, layer_dimensions, small_network


def ranks(model: nn.Module) -> list[int]:
    return [row.rank for row in sr.compression(model).layers]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(48, 32), nn.BatchNorm1d(32), nn.Linear(32, 32), nn.Linear(32, 10))


def falling(layer: nn.Linear, decay: float) -> None:
    """Give a layer a spectrum 1, decay, decay^2, .."""
    u, s, vh = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    layer.weight.data = u * decay ** torch.arange(len(s)) @ vh


def test_a_fraction_is_of_each_layers_full_rank_and_at_least_one():
    assert ranks(sr.reparameterize(network(), 0.25, "svdp")) == [8, 8, 2]
    assert ranks(sr.reparameterize(network(), 1e-9, "svdp")) == [1, 1, 1]


@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_the_whole_of_the_full_rank_keeps_every_weight(method):
    model = sr.reparameterize(small_network(), 1.0, method, init="dense")
    assert all(row.dense_error < 1e-5 for row in sr.compression(model).layers)


def test_in_a_mapping_the_first_match_counts_and_the_star_is_for_the_rest_wherever_it_stands():
    model = sr.reparameterize(network(), {"*": 2, "2": 5, "[23]": 0.5}, "svdp")
    assert ranks(model) == [2, 5, 5]


def test_a_mapping_reaches_all_layers_of_a_module():
    model = nn.ModuleDict({"body": network(), "head": nn.Linear(10, 10)})
    assert ranks(sr.reparameterize(model, {"body": 3, "head": 7}, "svdp")) == [3, 3, 3, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": {"tow": 3, "*": 2}}, "rank names 'tow', which matches no layer that can be changed; such as ['0',"),
        ({"rank": {"0": 3}}, "rank names no rank for layer '2'; add a pattern for it, or '*' for all others"),
        ({"rank": {"0": 0, "*": 1}}, "rank must be a whole number of at least 1, got 0"),
        ({"rank": {"*": 1.5}}, "rank must be a whole number of at least 1, got 1.5"),
        ({"rank": 0.0}, "got 0.0; or a fraction of the full rank, above 0, at most 1.0"),
        ({"rank": float("nan")}, "got nan"),
        ({"rank": True}, "got True"),
        ({"rank": "many"}, "got 'many'"),
        ({}, "give either a rank or a budget"),
        ({"rank": 3, "budget": 0.1}, "give either a rank or a budget"),
        ({"budget": 0}, "budget must be a share of the network's numbers, above 0 and at most 1, got 0"),
        ({"budget": 1.1}, "at most 1, got 1.1"),
        ({"budget": "10 %"}, "got '10 %'"),
    ],
)
def test_what_cannot_be_is_refused_and_the_model_stays(options, message):
    model = network()
    with pytest.raises(ValueError, match=re.escape(message)):
        sr.reparameterize(model, **options)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("init", ["dense", "orthogonal"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize("budget", [0.3, 0.5, 0.9])
def test_a_budget_is_kept_and_spent(method, init, budget):
    model = sr.reparameterize(network(), method=method, init=init, budget=budget)
    assert 100 * budget - 5 < sr.compression(model).ratio <= 100 * budget


@pytest.mark.parametrize("init", ["dense", "orthogonal"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_with_an_identity_spectrum_there_is_less_to_spend_on(method, init):
    """All orthogonal matrices have fewer numbers than all matrices."""
    kept = sr.reparameterize(network(), method=method, spectrum="identity", init=init, budget=0.3)
    assert 25 < sr.compression(kept).ratio <= 30
    rich = sr.reparameterize(network(), method=method, spectrum="identity", init=init, budget=0.95)
    assert ranks(rich) == [32, 32, 10]


def test_the_whole_budget_keeps_every_weight():
    model = sr.reparameterize(network(), init="dense", budget=1.0)
    assert all(row.dense_error < 1e-5 for row in sr.compression(model).layers)


def test_an_impossible_budget_names_the_smallest_which_then_works():
    with pytest.raises(ValueError, match="at rank 1 everywhere the network still has") as error:
        sr.reparameterize(network(), budget=0.01)
    least = float(str(error.value).rsplit(" ", 1)[1])
    assert ranks(sr.reparameterize(network(), budget=least)) == [1, 1, 1]
    with pytest.raises(ValueError, match="set budget to at least"):
        sr.reparameterize(network(), budget=least - 1e-3)


def test_without_weights_layers_get_equal_shares_of_their_numbers():
    rows = sr.compression(sr.reparameterize(network(), method="svdp", budget=0.4)).layers
    shares = [row.dof / row.dense for row in rows]
    # One rank of the smallest layer is an eighth of it
    assert max(shares) - min(shares) < 0.13


def test_ranks_go_where_the_weights_need_them_whatever_their_scale():
    model = network()
    falling(model[0], 0.2)
    falling(model[2], 0.99)
    model[2].weight.data *= 1e-3
    found = ranks(sr.reparameterize(model, method="svdp", init="dense", budget=0.5))
    assert found[0] < found[2]


@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_weighed_ranks_lose_less_than_equal_shares(method):
    model = network()
    for index, decay in ((0, 0.7), (2, 0.95), (3, 0.5)):
        falling(model[index], decay)
    equal = sr.reparameterize(copy.deepcopy(model), method=method, budget=0.5)
    names = [row.name for row in sr.compression(equal).layers]
    shared = sr.reparameterize(copy.deepcopy(model), dict(zip(names, ranks(equal), strict=True)), method, init="dense")
    weighed = sr.reparameterize(model, method=method, init="dense", budget=0.5)
    lost = [sum(row.dense_error**2 for row in sr.compression(m).layers) for m in (weighed, shared)]
    assert lost[0] < 0.8 * lost[1]


def test_the_greedy_choice_is_the_best_of_all_where_it_can_be_tried_out():
    dimensions = {name: Dimensions(6, (8,), "svdp", False, "flat") for name in "ab"}
    weights = {name: torch.randn(6, 8, dtype=torch.float64) for name in "ab"}
    energies = {name: torch.linalg.svdvals(weight).square() for name, weight in weights.items()}
    tails = {name: [float(e[rank:].sum() / e.sum()) for rank in range(1, 7)] for name, e in energies.items()}
    for budget in (0.5, 0.6, 0.7, 0.8, 0.9):
        found = budget_ranks(dimensions, budget, 0, weights)
        cost = {r: dimensions["a"].shape(r).dof(True) for r in range(1, 7)}
        fitting = [(i, j) for i in cost for j in cost if cost[i] + cost[j] <= budget * 96]
        best = min(tails["a"][i - 1] + tails["b"][j - 1] for i, j in fitting)
        assert (found["a"], found["b"]) in fitting
        assert tails["a"][found["a"] - 1] + tails["b"][found["b"] - 1] < best + 0.1


def test_weights_that_are_not_finite_or_all_zero():
    model = network()
    model[2].weight.data.zero_()
    assert ranks(sr.reparameterize(model, method="svdp", init="dense", budget=0.3, spectrum="free"))[1] == 1
    model = network()
    model[2].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the weight of layer '2' holds NaN or infinite values"):
        sr.reparameterize(model, init="dense", budget=0.3)


@given(layer_dimensions(), METHODS)
def test_a_higher_rank_has_more_numbers_up_to_all_of_them(shape, method):
    dimensions = Dimensions(*shape[:2], method, False, "flat")
    sizes = [dimensions.shape(rank).dof(True) for rank in range(1, dimensions.full + 1)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == dimensions.numbers
