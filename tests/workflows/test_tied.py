"""A weight that an embedding and a head share becomes spectral once and stays one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from tests.workflows.common import PATHS, optimizer_for, spectral, trained

TOKENS = torch.arange(20).view(4, 5)


class Language(nn.Module):
    """An embedding and a head with one weight, and a layer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.between = nn.Linear(12, 12)
        self.head = nn.Linear(12, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.between(self.embedding(tokens)).tanh())


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.roll(1).flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_tied(model: nn.Module) -> None:
    assert torch.equal(model.embedding.weight, model.head.weight)
    assert model.head.left is model.embedding.left
    assert model.head.right is model.embedding.right
    assert model.head.spectrum is model.embedding.spectrum


@PATHS
def test_tied_layers_share_all_they_have_and_are_counted_once(frames: str) -> None:
    model, untied = spectral(Language(), frames), Language()
    assert_tied(model)
    untied.head.weight = nn.Parameter(untied.head.weight.detach().clone())
    spectral(untied, frames)
    own = sum(p.numel() for p in untied.head.parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in untied.parameters()) - own
    assert sr.compression(model).dof < sr.compression(untied).dof


@PATHS
def test_tied_layers_stay_one_through_training(frames: str) -> None:
    model = spectral(Language(), frames)
    losses = learn(model, optimizer_for(frames, model.parameters()))
    assert losses[-1] < losses[0]
    assert_tied(model)


@PATHS
def test_a_tied_weight_gets_the_gradients_of_both_places(frames: str) -> None:
    model = spectral(Language(), frames)
    dense = sr.decompress(model)
    assert dense.head.weight is dense.embedding.weight
    for m in (model, dense):
        nn.functional.cross_entropy(m(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if n.startswith("embedding.")}
    model.zero_grad()
    (model.embedding.weight * dense.embedding.weight.grad).sum().backward()
    for name, grad in found.items():
        torch.testing.assert_close(grad, model.get_parameter(name).grad, rtol=1e-4, atol=1e-6)


@PATHS
def test_tied_layers_stay_one_through_copies_casts_loading_and_conversion(frames: str) -> None:
    model = spectral(Language(), frames)
    learn(model, optimizer_for(frames, model.parameters()))
    copied = copy.deepcopy(model)
    assert_tied(copied)
    loaded = spectral(Language(), frames, seed=1)
    loaded.load_state_dict(model.state_dict())
    assert_tied(loaded)
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    assert_tied(copied.double())
    converted = sr.convert_frames(model, "householder" if frames == "riemannian" else "riemannian")
    assert_tied(converted)
    torch.testing.assert_close(converted(TOKENS), loaded(TOKENS), rtol=1e-4, atol=1e-5)


@PATHS
def test_writing_a_tied_weight_writes_both(frames: str) -> None:
    model = spectral(Language(), frames, rank=1.0, spectrum="free")
    sr.set_weight(model.embedding, torch.randn(20, 12))
    assert_tied(model)


@PATHS
def test_a_layer_used_twice_stays_one(frames: str) -> None:
    shared = nn.Linear(24, 24)
    model = spectral(nn.Sequential(shared, nn.Tanh(), shared), frames)
    assert model[0] is model[2]
    dense = sr.decompress(model)
    x = torch.randn(5, 24)
    torch.testing.assert_close(model(x), dense(x), rtol=1e-5, atol=1e-5)
    assert trained(model, frames)[0] is model[2]


class Scaled(nn.Embedding):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * 2


def scaled_language() -> Language:
    model = Language()
    weight = model.head.weight
    model.embedding = Scaled(20, 12)
    model.embedding.weight = weight
    return model


def test_what_cannot_share_cores_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"'head' and 'embedding' share one weight.*sr.register_layer\(Scaled\)"):
        spectral(scaled_language())
    with pytest.raises(ValueError, match=r"'embedding' and 'head' share one weight, and the second is excluded"):
        spectral(Language(), exclude="head")
    assert spectral(Language(), exclude=["head", "embedding"]).head.weight.shape == (20, 12)


@PATHS
def test_a_registered_class_shares_cores_with_an_ordinary_layer(frames: str) -> None:
    class Registered(Scaled):
        pass

    sr.register_layer(Registered)
    model = scaled_language()
    model.embedding.__class__ = Registered
    wanted = model(TOKENS)
    sr.reparameterize(model, 1.0, frames=frames, init="dense")
    assert_tied(model)
    torch.testing.assert_close(model(TOKENS), wanted, rtol=1e-4, atol=1e-5)
    losses = learn(model, optimizer_for(frames, model.parameters()))
    assert losses[-1] < losses[0]
    assert_tied(model)
    dense = sr.decompress(model)
    assert dense.head.weight is dense.embedding.weight


@PATHS
def test_a_frozen_tied_weight_stays_dense_and_tied(frames: str) -> None:
    model = Language()
    model.head.weight.requires_grad_(False)
    before = model.head.weight.clone()
    spectral(model, frames)
    assert model.head.weight is model.embedding.weight
    assert torch.equal(model.head.weight, before)
