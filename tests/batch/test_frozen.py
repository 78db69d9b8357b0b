"""Kept weights are those of the model as it is, or are not used."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.batch import frozen
from sttp_riemann.batch.batch import Plan
from sttp_riemann.lab.bench.race import count_calls

FRAMES = pytest.mark.parametrize("frames", ["riemannian", "householder"])


def _model(frames: str = "riemannian") -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    return sr.reparameterize(model, 4, frames=frames).eval()


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often weights were built."""
    count, call = [0], Plan.__call__

    def counting(self, *arguments):
        count[0] += 1
        return call(self, *arguments)

    monkeypatch.setattr(Plan, "__call__", counting)
    return count


X = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))


@FRAMES
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_forwards_build_nothing_and_give_the_same_outputs(frames, mode, builds) -> None:
    model = _model(frames)
    with mode():
        expected = model(X)
        sr.frozen(model)
        before = builds[0]
        assert all(torch.equal(model(X), expected) for _ in range(3))
    assert builds[0] == before


@FRAMES
def test_layers_that_are_applied_core_by_core_build_nothing(frames, builds) -> None:
    model = _model(frames)
    for layer in model[::2]:
        layer.application = "train"
    with torch.no_grad():
        expected = model(X)
        sr.frozen(model)
        assert torch.equal(model(X), expected)
        before = builds[0]
        assert torch.equal(model(X), expected)
    assert builds[0] == before


SPLIT = {
    "attention": (lambda: nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), ()),
    "attention, keys dense": (lambda: nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), "self_attn.k_proj"),
    "lstm": (lambda: nn.Sequential(nn.LSTM(12, 8, 2)), ()),
    "cell": (lambda: nn.GRUCell(12, 8), ()),
}


@FRAMES
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("case", SPLIT)
def test_modules_that_were_split_build_nothing_and_give_the_same_outputs(case, frames, mode, builds) -> None:
    make, exclude = SPLIT[case]
    model, x = sr.reparameterize(make(), 4, frames=frames, exclude=exclude).eval(), X if case == "cell" else X[None]

    def outputs(own: nn.Module) -> torch.Tensor:
        found = own(x)
        return found[0] if isinstance(found, tuple) else found

    with mode():
        expected = outputs(model)
        sr.frozen(model)
        before = builds[0]
        assert all(torch.equal(outputs(model), expected) for _ in range(3))
        assert builds[0] == before
        for factored in (False, True):
            dense = sr.decompress(model, factored=factored)
            torch.testing.assert_close(outputs(dense), expected, rtol=1e-4, atol=1e-5)
        sr.set_weight(next(own for own in model.modules() if hasattr(own, "rank")), torch.ones(_first_shape(model)))
        changed = outputs(model)
    assert not torch.equal(changed, expected)
    torch.testing.assert_close(outputs(sr.decompress(model)), changed, rtol=1e-4, atol=1e-5)


def _first_shape(model: nn.Module) -> torch.Size:
    return next(own for own in model.modules() if hasattr(own, "rank")).weight.shape


def test_weights_built_in_inference_mode_serve_other_forwards(builds) -> None:
    model = _model()
    with torch.inference_mode():
        sr.frozen(model)
    with torch.no_grad():
        model(X)
    assert builds == [1]


@FRAMES
def test_other_threads_use_them_too(frames, builds) -> None:
    model, outputs = _model(frames), []
    sr.frozen(model)

    def serve() -> None:
        with torch.no_grad():
            outputs.append(model(X))

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == [1]
    assert all(torch.equal(out, outputs[0]) for out in outputs)


def _load(model: nn.Module) -> nn.Module:
    other = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    model.load_state_dict(sr.reparameterize(other, 4, frames=_kind(model), seed=5).state_dict())
    return model


def _kind(model: nn.Module) -> str:
    return model[0].frames


def _write(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        sr.set_weight(model[0], torch.randn(16, 12))
    return model


def _train(model: nn.Module) -> nn.Module:
    """By a fused optimizer where there is one, which leaves version counters as they are."""
    kind = torch.optim.Adam if _kind(model) == "householder" else sr.RiemannianAdam
    options = {"fused": True} if kind is torch.optim.Adam else {}
    optimizer = kind(model.parameters(), lr=0.1, **options)
    model(X).square().sum().backward()
    with torch.no_grad():
        model(X)
    optimizer.step()
    return model


def _data(model: nn.Module) -> nn.Module:
    for p in model.parameters():
        p.data = p.data.clone().neg_()
    return model


CHANGES = {
    "load": _load,
    "write": _write,
    "train": _train,
    "data": _data,
    "double": lambda model: model.double(),
    "half": lambda model: model.bfloat16(),
    "convert": lambda model: sr.convert_frames(model, "householder" if _kind(model) == "riemannian" else "riemannian"),
    "canonicalize": lambda model: sr.canonicalize(model),
    "gauge": lambda model: sr.gauge_fix(model),
}


@FRAMES
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changes_gives_the_outputs_of_a_fresh_copy(frames, change) -> None:
    model = _model(frames)
    sr.frozen(model)
    with torch.no_grad():
        model(X)
    model = CHANGES[change](model)
    x = X.to(model[0].bias.dtype)
    with torch.no_grad():
        assert torch.equal(model(x), copy.deepcopy(model)(x))


def test_a_layer_that_is_replaced_is_noticed() -> None:
    model = _model()
    sr.frozen(model)
    model[2] = sr.reparameterize(nn.Linear(16, 16), 2)
    with torch.no_grad():
        assert torch.equal(model(X), copy.deepcopy(model)(X))


def test_a_differentiable_forward_builds_its_own_and_ends_the_freeze(builds) -> None:
    model = _model()
    sr.frozen(model)
    model(X).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    before = builds[0]
    with torch.no_grad():
        model(X)
        model(X)
    assert builds[0] == before + 2


def test_the_weights_are_given_up_when_told_so(builds) -> None:
    model = _model()
    with torch.no_grad():
        with sr.frozen(model) as kept:
            model(X)
        model(X)
        kept.release()
    assert builds == [2]
    assert frozen.KEEPER not in vars(model)


def test_copies_and_pickles_keep_nothing() -> None:
    model = _model()
    sr.frozen(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert vars(twin).get(frozen.KEEPER) is None


@pytest.mark.parametrize("alone", [False, True])
def test_a_frozen_model_can_be_forgotten(alone) -> None:
    model = _model()[0] if alone else _model()
    sr.frozen(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_what_cannot_be_frozen_is_told() -> None:
    with pytest.raises(ValueError, match=r"model.eval\(\)"):
        sr.frozen(_model().train())
    with pytest.raises(ValueError, match="no reparameterized layer"):
        sr.frozen(nn.Linear(3, 3).eval())
    with pytest.raises(TypeError, match="model"):
        sr.frozen("model")


def test_copies_of_a_frozen_model_build_once_a_forward(builds) -> None:
    model = _model()
    sr.frozen(model)
    twin, before = copy.deepcopy(model), builds[0]
    with torch.no_grad():
        twin(X)
    assert builds[0] == before + 1


def test_a_part_of_a_frozen_model_uses_what_is_kept(builds) -> None:
    model = _model()
    sr.frozen(model)
    before = builds[0]
    with torch.no_grad():
        model[0](X)
    assert builds[0] == before


def test_a_spectrum_that_is_computed_from_another_tensor_is_never_stale() -> None:
    model = _model()
    layer = model[0]
    nn.utils.parametrize.register_parametrization(layer, "spectrum", _Doubled())
    sr.frozen(model)
    with torch.no_grad():
        model(X)
        layer.parametrizations.spectrum.original.mul_(torch.linspace(0.5, 1, layer.rank))
        assert torch.equal(model(X), copy.deepcopy(model)(X))


class _Doubled(nn.Module):
    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        return 2 * spectrum


def test_a_small_frozen_layer_makes_no_more_calls_than_two_thin_ones() -> None:
    x = torch.randn(4, 16)
    layer = sr.reparameterize(nn.Linear(16, 10), 2).eval()
    sr.frozen(layer)
    thin = nn.Sequential(nn.Linear(16, 2, bias=False), nn.Linear(2, 10)).eval()
    with torch.no_grad():
        layer(x)
        assert _operators(layer, x) == 1 < _operators(thin, x)


def _operators(model: nn.Module, x: torch.Tensor) -> int:
    return count_calls(lambda: model(x))
