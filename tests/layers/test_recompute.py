"""V^T x computed again in the backward."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

import sttp_riemann as sr
from sttp_riemann.batch import ledger
from sttp_riemann.batch.ledger import ledger_of
from sttp_riemann.batch.sight import Sight
from sttp_riemann.model.measures import spectral_layers
from tests.strategies import LAYER_KINDS


@pytest.fixture(autouse=True)
def _every_byte_counts(monkeypatch) -> None:
    monkeypatch.setattr(ledger, "GRAIN", 0)


def _layer(make, frames: str, recompute: str) -> nn.Module:
    torch.manual_seed(0)
    layer = sr.reparameterize(make(), 4, "sttp", frames, init="orthogonal", recompute=recompute)
    layer.application = "factored"
    return layer


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_gradients_are_the_same_to_the_bit(kind: str, autocast: bool, frames: str) -> None:
    make, size = LAYER_KINDS[kind]
    gradients = []
    for recompute in ("never", "always"):
        layer = _layer(make, frames, recompute)
        x = torch.randint(10, size) if "embedding" in kind else torch.randn(size, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = layer(x)
        out.float().square().sum().backward()
        gradients.append([p.grad for p in layer.parameters()] + ([] if "embedding" in kind else [x.grad]))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 4), lambda: nn.Conv2d(3, 4, 2)], ids=["linear", "conv2d"])
def test_second_derivatives_are_right(make) -> None:
    layer = _layer(lambda: make().double(), "householder", "always")
    x = torch.randn((2, 5) if isinstance(layer, nn.Linear) else (2, 3, 3, 3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).tanh(), (x,))
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    plain = _layer(lambda: make().double(), "householder", "never")
    (gradient,) = torch.autograd.grad(plain(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    for a, b in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def _convolutions(layer: nn.Module, x: torch.Tensor, monkeypatch) -> tuple[bool, int]:
    """Whether the codes were alive after a forward, and how often they were computed until after its backward."""
    codes, convolve = [], layer._conv_forward

    def watched(*arguments):
        result = convolve(*arguments)
        codes.append(weakref.ref(result))
        return result

    monkeypatch.setitem(layer.__dict__, "_conv_forward", watched)
    out = layer(x)
    assert len(codes) == 1
    kept = codes[0]() is not None
    out.sum().backward()
    return kept, len(codes)


@pytest.mark.parametrize("recompute", ["never", "always"])
def test_the_codes_are_kept_only_where_they_are_not_recomputed(recompute: str, monkeypatch) -> None:
    layer = _layer(lambda: nn.Conv2d(6, 8, 3), "riemannian", recompute)
    kept, computed = _convolutions(layer, torch.randn(2, 6, 9, 9), monkeypatch)
    assert (kept, computed) == ((True, 1) if recompute == "never" else (False, 2))


def _roomy() -> nn.Module:
    """A layer of 2 * 24 * 180 - 4 * 4 * 204 = 5,376 numbers less than the dense one: codes of 4 x 36 x 37."""
    layer = _layer(lambda: nn.Conv2d(20, 24, 3, padding=1), "riemannian", "auto")
    assert layer.room == 5376
    return layer


@pytest.mark.parametrize(("places", "kept"), [((42, 32), True), ((42, 33), False)])
def test_left_to_itself_a_layer_keeps_no_more_than_low_rank_saves(places, kept, monkeypatch) -> None:
    assert _convolutions(_roomy(), torch.randn(1, 20, *places), monkeypatch)[0] == kept


def test_room_is_shared_by_the_layers_of_a_model() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 30)), 2)
    shares = [2 * 100 * 50 - 4 * 2 * 150, 2 * 50 * 30 - 4 * 2 * 80]
    assert spectral_layers(model)["0"].room == sum(shares) / 2


def test_left_to_itself_a_layer_leaves_it_to_a_checkpoint(monkeypatch) -> None:
    layer, x = _roomy(), torch.randn(2, 20, 42, 42, requires_grad=True)
    inputs, given = [], layer.forward

    def watched(x):
        inputs.append(weakref.ref(x))
        return given(x)

    monkeypatch.setitem(layer.__dict__, "forward", watched)
    out = checkpoint(lambda x: layer(x * 2), x, use_reentrant=False)
    assert inputs[0]() is None
    out.sum().backward()


def _maps(memory: float = 1.0, wide: int = 16) -> nn.Module:
    """Four convolutions whose codes are as large as half of their inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU()) for _ in range(4)))
    sr.reparameterize(model, wide // 2, "svdp", recompute="auto", memory=memory)
    for layer in spectral_layers(model).values():
        layer.application = "factored"
    return model


IMAGES = torch.randn(2, 16, 12, 12, generator=torch.Generator().manual_seed(0))


def _computed(model: nn.Module, losses, steps: int = 1) -> list[int]:
    """How often each layer computed its codes in the last of several steps."""
    count: dict[str, int] = {}

    def watch(name: str, layer: nn.Module):
        convolve = type(layer)._conv_forward

        def watched(*arguments):
            count[name] = count.get(name, 0) + 1
            return convolve(layer, *arguments)

        return watched

    for name, layer in spectral_layers(model).items():
        layer.__dict__["_conv_forward"] = watch(name, layer)
    for _ in range(steps):
        count.clear()
        losses(model)
    return [count[name] for name in spectral_layers(model)]


def _once(model: nn.Module) -> None:
    model(IMAGES).square().sum().backward()


def _twice(model: nn.Module) -> None:
    (model(IMAGES).square().sum() + model(-IMAGES).square().sum()).backward()


def test_without_knowledge_large_codes_are_computed_again() -> None:
    assert _computed(_maps(memory=10.0), _once) == [2] * 4


@pytest.mark.parametrize(("memory", "expected"), [(10.0, [1, 1, 1, 1]), (1e-6, [2, 2, 2, 1])])
def test_from_the_second_step_on_no_more_is_computed_again_than_the_share_needs(memory, expected) -> None:
    """The peak is where the backward comes to the last layer, whose own codes are needed there anyway."""
    assert _computed(_maps(memory), _once, 2) == expected


def test_what_is_smaller_than_the_grain_of_allocators_is_kept(monkeypatch) -> None:
    monkeypatch.undo()
    assert _computed(_maps(1e-6), _once, 2) == [1, 1, 1, 1]


def test_the_smaller_the_share_the_more_is_computed_again() -> None:
    found = [sum(_computed(_maps(memory), _twice, 2)) for memory in (1.3, 1.15, 1.0, 0.8)]
    assert found == sorted(found)
    assert found[0] == 8
    assert 8 < found[1] < found[-1] <= 16


def test_two_forwards_before_a_backward_count_together() -> None:
    """What suffices for one forward does not for two, whose codes are alive together."""
    shares = [1 + k / 50 for k in range(20)]
    one, two = ([sum(_computed(_maps(share), losses, 2)) for share in shares] for losses in (_once, _twice))
    assert any(2 * a < b for a, b in zip(one, two, strict=True))


def _accumulated(model: nn.Module) -> None:
    for images in (IMAGES, -IMAGES):
        model(images).square().sum().backward()


def test_forwards_with_a_backward_each_count_apart() -> None:
    for share in (1.0, 1.1):
        assert sum(_computed(_maps(share), _accumulated, 2)) == 2 * sum(_computed(_maps(share), _once, 2))


def test_what_was_seen_is_that_of_the_largest_batch() -> None:
    """A small batch in between changes nothing, a larger one has its step seen again."""
    model = _maps(1e-6)
    _computed(model, _once, 2)
    ledger = ledger_of(model)
    _computed(model, lambda own: own(IMAGES[:1]).sum().backward(), 2)
    model(IMAGES)
    assert ledger.sight is None
    assert sum(_computed(model, lambda own: own(IMAGES.repeat(2, 1, 1, 1)).sum().backward(), 3)) == 7
    assert not ledger._missing


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_in_no_step_the_gradients_depend_on_it(steps: int) -> None:
    models = [_maps(memory) for memory in (10.0, 1.0, 1e-6)]
    for model in models:
        for _ in range(steps):
            _twice(model)
        model.zero_grad()
        _twice(model)
    first, *others = ([p.grad for p in model.parameters()] for model in models)
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def _looking() -> bool:
    return any(isinstance(mode, Sight) for mode in _get_current_dispatch_mode_stack())


@pytest.mark.parametrize("inside", [False, True])
def test_who_looks_on_is_gone_after_a_forward_that_fails(inside: bool) -> None:
    model, looked = _maps(), []

    def fail(*_):
        looked.append(_looking())
        raise ValueError

    handle = (model[1][0] if inside else model[3]).register_forward_pre_hook(fail)
    with pytest.raises(ValueError):
        model(IMAGES)
    assert looked == [True]
    assert not _looking()
    handle.remove()
    _once(model)
    assert not _looking()


def test_who_looks_on_when_a_forward_is_interrupted_is_gone_after_the_next() -> None:
    """No hook of the model is called then."""
    model = _maps()

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = model[3].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(IMAGES)
    handle.remove()
    _once(model)
    assert not _looking()


class _Meta(nn.Module):
    """Calls what looks into its own graph, or refuses to be looked at."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.func.grad(lambda y: y.square().sum())(x)


def test_a_model_that_transforms_inside_is_seen_as_well() -> None:
    model = _maps(1e-6)
    model.append(_Meta())
    assert _computed(model, _once, 2) == [2, 2, 2, 1]


def test_a_model_can_be_forgotten_with_what_was_seen() -> None:
    model = _maps()
    _twice(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_copy_sees_a_step_of_its_own() -> None:
    model = _maps(1e-6)
    _computed(model, _once, 2)
    assert not ledger_of(copy.deepcopy(model))._known


@pytest.mark.parametrize("memory", [0, -1.0, float("nan"), "0.9", None])
def test_a_share_that_is_none_is_told(memory) -> None:
    with pytest.raises((TypeError, ValueError), match="memory"):
        sr.reparameterize(nn.Linear(6, 5), 2, memory=memory)


@pytest.mark.parametrize("recompute", ["always", "never"])
def test_a_share_that_nothing_would_follow_is_told(recompute) -> None:
    with pytest.raises(ValueError, match="does not depend on memory"):
        sr.reparameterize(nn.Linear(6, 5), 2, recompute=recompute, memory=0.9)


@pytest.mark.parametrize("changed", ["input", "frame"])
def test_a_change_in_place_before_the_backward_is_told(changed: str) -> None:
    """By autograd, which keeps both or what they are views of: nothing is computed again from other numbers."""
    layer = sr.reparameterize(nn.Linear(6, 5), 2, "svdp", recompute="always")
    layer.application = "factored"
    x = torch.randn(3, 6)
    loss = layer(x).sum()
    with torch.no_grad():
        (x if changed == "input" else layer.right[0]).mul_(-1)
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
        loss.backward()


def test_an_unknown_choice_is_told() -> None:
    with pytest.raises(ValueError, match="recompute"):
        sr.reparameterize(nn.Linear(6, 5), 2, recompute="sometimes")


def test_every_layer_is_told() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), 2, recompute="always")
    assert all(layer.recompute == "always" for layer in spectral_layers(model).values())
    assert not hasattr(sr.decompress(model)[0], "recompute")
