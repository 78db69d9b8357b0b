"""Calls of reparameterize add up; gauge fixing is something the user calls or hooks."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import PATHS, Net, inputs, layers_of, moved, spectral, stack, train, trained, weights_of


def test_a_second_call_with_other_options_reaches_what_is_left() -> None:
    model = spectral(Net(), "householder", exclude="head", rank=4)
    first = weights_of(model)
    spectral(model, "riemannian", rank=6, spectrum="free")
    assert {name: layer.rank for name, layer in layers_of(model).items()} == {
        "backbone.0": 4,
        "backbone.2": 4,
        "head": 6,
    }
    assert moved(first, weights_of(model)) == {"head"}
    dense = sr.decompress(model)
    torch.testing.assert_close(model(inputs()), dense(inputs()), rtol=1e-5, atol=1e-5)
    losses = train(model, sr.RiemannianAdam(model.parameters(), lr=1e-2), 10)
    assert losses[-1] < losses[0]


def test_naming_a_layer_that_is_spectral_already_is_refused_by_its_name() -> None:
    model = spectral(Net(), exclude="head")
    before = set(model.state_dict())
    with pytest.raises(ValueError, match=r"backbone\.2"):
        spectral(model, rank={"backbone.2": 4, "head": 4})
    assert set(model.state_dict()) == before


def test_a_model_with_nothing_left_is_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        spectral(spectral(Net()))


@PATHS
def test_a_part_made_spectral_on_its_own_joins_the_rest(frames: str) -> None:
    model = stack()
    spectral(model[2], frames)
    spectral(model, frames)
    assert set(layers_of(model)) == {"0", "2", "4", "6"}
    fresh = spectral(stack(), frames, seed=1)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(inputs()), model(inputs()))
    trained(model, frames)


def test_optimizers_know_no_model() -> None:
    for kind in (sr.RiemannianAdam, sr.RiemannianSGD):
        assert "gauge_fix_every" not in inspect.signature(kind).parameters
    model = spectral(Net())
    optimizer = sr.RiemannianAdam(model.parameters(), match_adam=False)
    fresh = sr.RiemannianAdam(model.parameters())
    fresh.load_state_dict(optimizer.state_dict())
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer)), fresh):
        assert other.param_groups[0]["match_adam"] is False


@pytest.mark.parametrize("kind", [sr.RiemannianAdam, sr.RiemannianSGD])
def test_a_copied_or_loaded_optimizer_goes_on_as_the_original(kind: type[torch.optim.Optimizer]) -> None:
    model = spectral(Net())
    optimizer = kind(model.parameters(), lr=1e-2)
    train(model, optimizer, 3)
    twin = copy.deepcopy(model)
    other = kind(twin.parameters(), lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    both, both_optimizer = copy.deepcopy((model, optimizer))
    expected = train(model, optimizer, 5)
    assert train(twin, other, 5) == expected
    assert train(both, both_optimizer, 5) == expected


def test_parameters_are_added_to_an_optimizer() -> None:
    model = spectral(Net())
    optimizer = sr.RiemannianAdam(model.head.parameters(), lr=1e-2)
    before = weights_of(model)
    train(model, optimizer, 2)
    assert moved(before, weights_of(model)) == {"head"}
    optimizer.add_param_group({"params": list(model.backbone.parameters()), "lr": 1e-3})
    train(model, optimizer, 2)
    assert moved(before, weights_of(model)) == {"backbone.0", "backbone.2", "head"}
    assert sr.orthogonality_error(model) < 1e-5


def leading_blocks_are_triangular(model: nn.Module) -> bool:
    """Whether every core but the two beside the spectrum is in St_U."""
    sides = [list(side.parameters()) for layer in layers_of(model).values() for side in (layer.left, layer.right)]
    blocks = [frame[: frame.shape[1]] for side in sides for frame in side[:-1]]
    return all(float(block.tril(-1).abs().sum()) < 1e-4 for block in blocks)


def test_a_hook_fixes_the_gauge_every_so_many_steps_until_it_is_removed() -> None:
    model = spectral(Net(), rank=4)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    handle = sr.register_gauge_fix(model, optimizer, every=4)
    fixed = []
    for _ in range(8):
        train(model, optimizer, 1)
        fixed.append(leading_blocks_are_triangular(model))
    assert fixed == [False, False, False, True] * 2
    handle.remove()
    train(model, optimizer, 4)
    assert not leading_blocks_are_triangular(model)


def test_fixing_the_gauge_leaves_the_future_of_the_weights() -> None:
    weights = []
    for every in (None, 3):
        torch.manual_seed(0)
        model = spectral(Net(), rank=4).double()
        optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
        if every:
            sr.register_gauge_fix(model, optimizer, every=every)
        train(model, optimizer, 20, inputs().double())
        weights.append(weights_of(model))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("every", [0, -1, 2.5, True])
def test_a_number_of_steps_that_is_none_is_refused(every: object) -> None:
    model = spectral(Net())
    with pytest.raises(ValueError, match="every"):
        sr.register_gauge_fix(model, sr.RiemannianAdam(model.parameters()), every=every)
