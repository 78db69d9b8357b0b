"""Reparameterized models under torch.compile and torch.export."""

from __future__ import annotations

import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from tests.strategies import small_network

PATHS = [(m, f) for m in ("sttp", "svdp") for f in ("riemannian", "householder")]


@pytest.mark.parametrize(("method", "frames"), PATHS)
def test_a_compiled_model_has_no_graph_breaks_and_the_same_gradients(method: str, frames: str) -> None:
    torch._dynamo.reset()
    model = sr.reparameterize(small_network(), 4, method, frames).eval()
    x = torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(x).square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), model(x))
    for gradient, p in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, p.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_compiled_model_follows_its_parameters(frames: str) -> None:
    torch._dynamo.reset()
    model = sr.reparameterize(torch.nn.Linear(12, 8), 4, frames=frames)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-1)
    x = torch.randn(5, 12)
    for _ in range(3):
        optimizer.zero_grad()
        compiled(x).square().sum().backward()
        optimizer.step()
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_building_frames_compiles_without_graph_breaks(frames: str) -> None:
    torch._dynamo.reset()
    model = sr.reparameterize(small_network(), 4, frames=frames)
    layer = next(iter(spectral_layers(model).values()))
    build = torch.compile(lambda: layer.to_matrix(layer.built_weight()), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(build(), layer.to_matrix(layer.weight))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "frames"), PATHS)
def test_inductor_compiles_a_training_step(method: str, frames: str) -> None:
    torch._dynamo.reset()
    model = sr.reparameterize(small_network(), 4, method, frames).eval()
    x = torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, fullgraph=True)
    compiled(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("method", "frames"), PATHS)
def test_the_decompressed_model_exports(method: str, frames: str) -> None:
    model = sr.reparameterize(small_network(), 4, method, frames).eval()
    x = torch.randn(2, 3, 8, 8)
    exported = torch.export.export(sr.decompress(model), (x,))
    torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-5, atol=1e-5)
