"""One definition of a weight: whatever looks at one tells the same, for every kind of layer."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.inspection import inspect
from sttp_riemann.lab.networks.baselines import BASELINES, remove_baseline
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.stability import layer_records, trained_norms
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.weights import (
    distinct,
    layer_numbers,
    layer_values,
    matrix_shape,
    stable_rank,
    weight_matrix,
    weighted_layers,
)
from tests.strategies import EXAMPLES, disturb

KINDS = pytest.mark.parametrize("kind", EXAMPLES)


def network(kind: str) -> nn.ModuleDict:
    make, _ = EXAMPLES[kind]
    return nn.ModuleDict({"first": make(), "rest": nn.ModuleList([make(), nn.Linear(6, 5)])})


def norms(model: nn.ModuleDict, kind: str) -> dict[str, float]:
    example = EXAMPLES[kind][1]()
    return {
        name: record["spectral_norm"]
        for name, record in layer_records(model, lambda m: m["first"](*example).square().sum()).items()
    }


@KINDS
@pytest.mark.parametrize("low_rank", [False, True])
def test_all_that_looks_at_weights_agrees(kind: str, low_rank: bool) -> None:
    model = network(kind)
    if low_rank:
        disturb(sr.reparameterize(model, 3, init="orthogonal"))
    layers = weighted_layers(model)
    assert list(layers) == ["first", "rest.0", "rest.1"]
    reported = {row.name: row for row in inspect(model).layers}
    plain = sr.decompress(model) if low_rank else model
    recorded, summary = norms(plain, kind), observe.summary(model)
    for name, layer in layers.items():
        values, matrix = layer_values(layer), weight_matrix(layer)
        true = torch.linalg.svdvals(matrix.double())[: len(values)]
        torch.testing.assert_close(values.double(), true, rtol=1e-5, atol=1e-6)
        assert matrix.shape == matrix_shape(layer) == reported[name].shape
        assert layer_numbers(layer).dense == matrix.numel() == math.prod(reported[name].shape)
        assert reported[name].stable_rank == stable_rank(values)
        assert reported[name].largest == pytest.approx(recorded[name], rel=1e-5)
        assert summary["singular_values"][name] == values.tolist()
    numbers = [layer_numbers(layer) for layer in layers.values()]
    assert (summary["dof"], summary["stored"], summary["dense"]) == tuple(
        sum(getattr(own, name) for own in numbers) for name in ("dof", "stored", "dense")
    )
    assert summary["ratio"] == inspect(model).ratio
    if low_rank:
        table = sr.compression(model)
        assert (table.dof, table.stored, table.dense, table.ratio) == tuple(
            summary[name] for name in ("dof", "stored", "dense", "ratio")
        )


@KINDS
@pytest.mark.parametrize("exclude", [("first",), ("rest",), ("*.1",), "first", ("rest.0", "*.1")])
def test_exclude_means_one_thing(kind: str, exclude: str | tuple[str, ...]) -> None:
    model = network(kind)
    low_rank = sr.reparameterize(copy.deepcopy(model), 2, exclude=exclude)
    spectral = [name for name, layer in weighted_layers(low_rank).items() if isinstance(layer, SpectralLayer)]
    assert (
        list(weighted_layers(model, exclude)) == spectral == list(observe.summary(low_rank, exclude)["singular_values"])
    )
    assert observe.sizes(model, exclude)["dense"] == sr.compression(low_rank).dense


def test_exclude_that_matches_nothing_is_refused_of_dense_models_too() -> None:
    with pytest.raises(ValueError, match="exclude names 'frist', which matches no layer"):
        weighted_layers(network("Linear"), "frist")


@KINDS
@pytest.mark.parametrize("baseline", BASELINES)
def test_baselines_normalize_the_same_matrix(kind: str, baseline: str) -> None:
    model = network(kind)
    before = {name: layer_values(layer) for name, layer in weighted_layers(model).items()}
    held = BASELINES[baseline](model)
    for _ in range(100):  # power iterations of spectral normalization
        [layer.weight for layer in held.modules() if hasattr(layer, "parametrizations")]
    plain = weighted_layers(remove_baseline(held))
    assert list(plain) == list(weighted_layers(held)) == list(before)
    for name, layer in plain.items():
        assert float(layer_values(layer)[0]) == pytest.approx(1, abs=1e-3)
        assert trained_norms(held)[name] == pytest.approx(float(before[name][0]), rel=1e-4)


def test_a_zero_matrix_has_stable_rank_zero_and_an_orthogonal_one_full_rank() -> None:
    assert stable_rank(torch.zeros(3)) == 0
    assert stable_rank(torch.full((3,), 0.1)) == pytest.approx(3)


def test_tied_layers_are_one_weight() -> None:
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)])
    model[2].weight = model[0].weight
    assert list(distinct(weighted_layers(model))) == ["0", "1"]
    assert list(distinct(weighted_layers(sr.reparameterize(model, 2)))) == ["0", "1"]


def test_layers_of_own_classes_are_other_numbers() -> None:
    class Own(nn.Linear):
        pass

    assert list(weighted_layers(nn.Sequential(Own(3, 3), nn.Linear(3, 3)))) == ["1"]
