"""V^T x computed again in the backward."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from tests.strategies import LAYER_KINDS


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
