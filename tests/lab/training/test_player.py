from __future__ import annotations

from typing import Any

import geoopt
import pytest
import torch
from accelerate import Accelerator
from torch import nn

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.player import Player

BATCH = torch.linspace(-1, 1, 8 * 12).view(8, 12)


def player(recipe, model=None):
    if model is None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 12))
        if recipe.network.method != "dense":
            sr.reparameterize(model, rank=4, frames=recipe.network.frames)
    return Player(model, recipe, Accelerator(cpu=True))


def weights(player: Player) -> torch.Tensor:
    return player.model[0].weight.detach().clone()


def train(player: Player, steps: int = 1, parts: int = 1, **loss: Any) -> float:
    return [player.descend(BATCH.chunk(parts), lambda x: player.network(x).square().mean(), 1e-2) for _ in range(steps)]


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_descending_lowers_the_loss(frames, tiny):
    losses = train(player(tiny(frames=frames)), 20)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_batch_in_parts_takes_the_same_step(frames, tiny):
    # Eigenbases of gradients, as "cores" has them, make more of rounding
    whole, parts = (player(tiny(frames=frames, moment="matrix")) for _ in range(2))
    assert train(whole, 3) == pytest.approx(train(parts, 3, parts=4), rel=1e-5)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-5)


def test_the_learning_rate_is_that_of_the_step(tiny):
    still = player(tiny())
    before = weights(still)
    still.descend([BATCH], lambda x: still.network(x).square().mean(), 1e-30)
    assert torch.allclose(weights(still), before, atol=1e-6)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_clipping_bounds_the_gradient_that_moves_something(frames, tiny):
    clipped = player(tiny(frames=frames, clip=1e-3, optimizer="sgd"))
    train(clipped)
    norms = []
    for p in clipped.model.parameters():
        if p.grad is not None:
            tangent = isinstance(p, geoopt.ManifoldParameter)
            norms.append((p.manifold.egrad2rgrad(p.detach(), p.grad) if tangent else p.grad).norm())
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_without_an_average_the_result_is_the_network(tiny):
    plain = player(tiny())
    assert plain.result is plain.model


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_an_average_follows_the_network_and_is_the_result(frames, tiny):
    averaging = player(tiny(frames=frames, ema=0.5))
    train(averaging, 10)
    assert averaging.result is averaging.average.module
    assert 0 < (averaging.result[0].weight - weights(averaging)).abs().max() < 0.5


def wandered(recipe, spectrum: str, fix_gauge_every: int) -> Player:
    torch.manual_seed(0)
    layer = nn.Linear(12, 16, dtype=torch.float64)
    current = player(recipe, sr.reparameterize(nn.Sequential(layer), rank=4, spectrum=spectrum))
    for step in range(1, 21):
        current.descend([BATCH.double()], lambda x: (current.network(x) - 1).square().mean(), 1e-2)
        if step % fix_gauge_every == 0:
            current.fix_gauge()
    return current


@pytest.mark.parametrize("spectrum", ["learned", "identity"])
def test_fixing_the_gauge_changes_neither_the_network_nor_its_average_ever_after(spectrum, tiny):
    recipe = tiny(ema=0.9, betas=[0.9, 0.9])
    fixed, free = (wandered(recipe, spectrum, every) for every in (5, 100))
    assert torch.allclose(weights(fixed), weights(free), atol=1e-9)
    assert torch.allclose(fixed.result[0].weight, free.result[0].weight, atol=1e-9)


def test_a_penalty_that_a_network_cannot_have_is_refused_before_training(tiny):
    model = sr.reparameterize(nn.Linear(12, 12), rank=1)
    with pytest.raises(RecipeError, match=r"penalty 'divergence' .* every layer has rank 1: raise the rank") as error:
        player(tiny(penalty="divergence", rank=1), model)
    assert len(str(error.value)) < 300
