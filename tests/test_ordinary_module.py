"""A reparameterized model is an ordinary module: saved, copied, cast, hooked and frozen as any other."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import FRAMES
from sttp_riemann.model.measures import spectral_layers
from tests.strategies import disturb, small_network

METHOD_AND_FRAMES = [(m, f) for m in ("sttp", "svdp") for f in FRAMES]


@pytest.mark.parametrize(("method", "frames"), METHOD_AND_FRAMES)
def test_state_dicts_copies_and_pickles_are_the_same_model(method: str, frames: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = disturb(sr.reparameterize(small_network(), 4, method, frames)).eval()
    expected = model(x)
    fresh = sr.reparameterize(small_network(), 4, method, frames, seed=9).eval()
    fresh(x)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), expected)


def test_a_copy_is_independent() -> None:
    model = sr.reparameterize(small_network(), 4).eval()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    disturb(copy.deepcopy(model))
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("frames", FRAMES)
def test_a_model_cast_to_bfloat16_keeps_its_frames_in_float32(frames: str) -> None:
    model = sr.reparameterize(small_network(), 4, frames=frames).to(torch.bfloat16)
    assert model(torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    layer = next(iter(spectral_layers(model).values()))
    assert layer.weight.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in layer.factor_parameters())
    assert sr.orthogonality_error(model) < 1e-5
    assert model.double()(torch.randn(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("frames", FRAMES)
def test_autocast_leaves_weights_in_float32(frames: str) -> None:
    model = sr.reparameterize(small_network(), 4, frames=frames)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(2, 3, 8, 8))
        assert out.dtype == torch.bfloat16
        assert all(layer.weight.dtype == torch.float32 for layer in spectral_layers(model).values())
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_attention_runs_through_a_reparameterized_projection() -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    sr.reparameterize(attention, 8)
    x = torch.randn(2, 5, 16)
    expected = sr.decompress(attention)(x, x, x)[0]
    torch.testing.assert_close(attention(x, x, x)[0], expected)
    attention.eval()
    with torch.no_grad():
        torch.testing.assert_close(attention(x, x, x)[0], expected)


def test_bias_buffers_hooks_and_mode_stay() -> None:
    layer = nn.Linear(6, 4).eval()
    bias, calls = layer.bias, []
    layer.register_forward_hook(lambda *_: calls.append(1))
    model = sr.reparameterize(layer, 2)
    model(torch.randn(3, 6))
    assert model.bias is bias
    assert calls == [1]
    assert not model.training


def test_frozen_models_stay_frozen() -> None:
    model = sr.reparameterize(small_network().requires_grad_(False), 4)
    assert not any(p.requires_grad for p in model.parameters())
