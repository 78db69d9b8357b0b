"""Adapters come out of the weights as they went in."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import sttp_riemann as sr
from tests.model.adapting import ROWS, STARTS, adapters, made, moved, relative, weights
from tests.workflows.common import PATHS, VARIANTS


@VARIANTS
@STARTS
def test_a_merged_model_answers_as_the_unmerged_one_to_1e_6(method: str, frames: str, start: str) -> None:
    model = moved(made(start, method=method, frames=frames))
    before = model(ROWS).detach()
    sr.merge(model.eval())
    assert relative(model(ROWS), before) < 1e-6
    assert torch.equal(model(ROWS), sr.decompress(model)(ROWS))
    assert torch.equal(sr.unmerge(model)(ROWS), before)


def test_unmerging_brings_the_frozen_weights_back_bit_for_bit_and_the_state_never_changes() -> None:
    model = moved(made("pissa"))
    bases = {name: layer.base for name, layer in adapters(model).items()}
    before = copy.deepcopy(model.state_dict())
    for verb in (sr.merge, sr.merge, sr.unmerge, sr.unmerge):
        verb(model)
        found = model.state_dict()
        assert list(found) == list(before)
        assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    assert all(layer.base is bases[name] for name, layer in adapters(model).items())


def test_a_merged_layer_refuses_to_train_and_to_load() -> None:
    model = sr.merge(moved(made()))
    with pytest.raises(RuntimeError, match=r"merged, so its adapter would get no gradient: call sr.unmerge"):
        model(ROWS)
    with pytest.raises(RuntimeError, match=r"layer '0' cannot load this state: it is merged; call sr.unmerge"):
        model.load_state_dict(made().state_dict())
    with pytest.raises(ValueError, match="merged"):
        sr.set_weight(model[0], torch.zeros(18, 12))
    model.eval()(ROWS)
    with torch.no_grad():
        model.train()(ROWS)


@PATHS
@pytest.mark.parametrize("merged", [False, True])
def test_copies_and_pickles_answer_as_the_model(frames: str, merged: bool) -> None:
    model = moved(made(frames=frames)).eval()
    if merged:
        sr.merge(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(ROWS), model(ROWS))
        sr.unmerge(twin)
        assert all(torch.equal(t, twin.state_dict()[name]) for name, t in model.state_dict().items())
        assert torch.equal(twin(ROWS), sr.unmerge(copy.deepcopy(model))(ROWS))


def test_a_cast_model_keeps_its_frames_in_float32_merged_or_not() -> None:
    model = moved(made()).eval()
    whole = weights(model)
    for other in (copy.deepcopy(model).bfloat16(), sr.unmerge(sr.merge(copy.deepcopy(model)).bfloat16())):
        layer = other[0]
        assert (layer.base.dtype, layer.weight.dtype) == (torch.bfloat16, torch.bfloat16)
        assert {p.dtype for p in layer.factor_parameters()} == {torch.float32}
        assert torch.equal(layer.base, model[0].base.bfloat16())
        merged = sr.merge(other)[0].weight.detach()
        wide = layer.kept.float() + (model[0].weight - model[0].base).detach()
        # Half of the distance to the next number of eight bits, as after one rounding
        assert ((merged.float() - wide).abs() <= 1.01 * 2**-8 * wide.abs()).all()
    assert relative(weights(copy.deepcopy(model).double())[0], whole[0].double()) < 1e-6
