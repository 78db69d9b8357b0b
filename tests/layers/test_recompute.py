"""V^T x computed again in the backward."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.views import spectral_layers
from tests.strategies import LAYER_KINDS


def _layer(make, frames: str, recompute: bool) -> nn.Module:
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
    for recompute in (False, True):
        layer = _layer(make, frames, recompute)
        x = torch.randint(10, size) if "embedding" in kind else torch.randn(size, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = layer(x)
        out.float().square().sum().backward()
        gradients.append([p.grad for p in layer.parameters()] + ([] if "embedding" in kind else [x.grad]))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 4), lambda: nn.Conv2d(3, 4, 2)], ids=["linear", "conv2d"])
def test_second_derivatives_are_right(make) -> None:
    layer = _layer(lambda: make().double(), "householder", True)
    x = torch.randn((2, 5) if isinstance(layer, nn.Linear) else (2, 3, 3, 3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).tanh(), (x,))
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    plain = _layer(lambda: make().double(), "householder", False)
    (gradient,) = torch.autograd.grad(plain(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    for a, b in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_codes_are_kept_only_where_they_are_not_recomputed(recompute: bool, monkeypatch) -> None:
    layer = _layer(lambda: nn.Conv2d(6, 8, 3), "riemannian", recompute)
    codes, convolve = [], layer._conv_forward

    def watched(*arguments):
        result = convolve(*arguments)
        codes.append(weakref.ref(result))
        return result

    monkeypatch.setitem(layer.__dict__, "_conv_forward", watched)
    out = layer(torch.randn(2, 6, 9, 9))
    assert len(codes) == 1
    assert (codes[0]() is None) == recompute
    out.sum().backward()
    assert len(codes) == 1 + recompute


def test_every_layer_is_told() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), 2, recompute=True)
    assert all(layer.recompute for layer in spectral_layers(model).values())
    assert not hasattr(sr.decompress(model)[0], "recompute")
