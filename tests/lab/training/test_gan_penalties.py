"""Penalties by their definitions, and second derivatives through everything that a discriminator may be made of."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.baselines import spectral_normalize
from sttp_riemann.lab.networks.registry import NETWORKS
from sttp_riemann.lab.training.gan_losses import GanLoss
from sttp_riemann.lab.training.gan_penalties import GRADIENT_PENALTIES, between, gradient_penalty
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.layers.recompute import RECOMPUTE
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.testing.models import disturb_
from tests.lab.training.test_gan import draws, task
from tests.strategies import FRAMES, METHODS, SEEDS, SPECTRA

ALL = {"r1": 0.7, "r2": 1.3, "wgan_gp": 2.0}
SIDE = 5


def images(count: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """Leaves for every place, in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, SIDE, SIDE)
    return {
        place: torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for place in ("real", "fake", "between")
    }


def penalty_of(model: nn.Module, weights: dict[str, float], *labels: Tensor) -> Tensor:
    places = images()
    scores = model(torch.cat([*places.values()]), *labels)
    return gradient_penalty(scores, places, weights)


def discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Softplus(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(24, 8),
        nn.Tanh(),
        nn.Linear(8, 1),
        nn.Flatten(0),
    ).double()


def assert_second_derivatives(model: nn.Module, weights: dict[str, float], *labels: Tensor) -> None:
    """Compare the gradient of a penalty, along a random direction, with a central difference."""
    points = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in points]
    length = torch.cat([d.flatten() for d in directions]).norm()
    directions = [d / length for d in directions]
    found = torch.autograd.grad(penalty_of(model, weights, *labels), points, allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True) if g is not None)
    starts, values = [p.detach().clone() for p in points], []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            for p, start, d in zip(points, starts, directions, strict=True):
                p.copy_(start + step * d)
        values.append(penalty_of(model, weights, *labels).item())
    assert abs(slope) > 1e-6
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", GRADIENT_PENALTIES)
@given(seed=SEEDS, count=st.integers(1, 6))
def test_a_penalty_has_the_value_of_its_formula(name, seed, count):
    places = images(count, seed)
    # The gradient of x^3 / 3 summed over an image is x^2
    scores = torch.cat([*places.values()]).pow(3).sum((1, 2, 3)) / 3
    norms = {place: x.detach().pow(4).sum((1, 2, 3)).sqrt() for place, x in places.items()}
    expected = {
        "r1": norms["real"].square().mean() / 2,
        "r2": norms["fake"].square().mean() / 2,
        "wgan_gp": (norms["between"] - 1).square().mean(),
    }[name]
    found = gradient_penalty(scores, places, {name: 3.0})
    torch.testing.assert_close(found, 3 * expected)


def test_several_penalties_add_up_with_their_weights():
    model = discriminator()
    alone = sum(penalty_of(model, {name: weight}) for name, weight in ALL.items())
    torch.testing.assert_close(penalty_of(model, ALL), alone)


def test_images_without_a_penalty_need_no_gradient():
    places = images()
    places["fake"] = places["fake"].detach()
    gradient_penalty(torch.cat([*places.values()]).square().sum((1, 2, 3)), places, {"r1": 1.0}).backward()


def test_a_gradient_of_zero_has_a_finite_penalty():
    places, slope = images(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    found = gradient_penalty(slope * torch.cat([*places.values()]).sum((1, 2, 3)), places, ALL)
    found.backward()
    assert found.item() == pytest.approx(2.0)
    assert math.isfinite(slope.grad.item())


def test_points_between_lie_on_the_segments_of_pairs():
    real, fake = torch.randn(2, 50, 3, 4, 4).unbind()
    shares = ((between(real, fake) - fake) / (real - fake)).flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares), rtol=1e-2, atol=1e-3)
    assert 0 <= float(shares[:, 0].min()) < 0.2
    assert 0.8 < float(shares[:, 0].max()) <= 1


@settings(max_examples=20)
@given(METHODS, FRAMES, SPECTRA, st.sampled_from(RECOMPUTE), st.sampled_from(["factored", "weight", "train"]), SEEDS)
def test_every_representation_has_exact_second_derivatives(method, frames, spectrum, recompute, application, seed):
    torch.manual_seed(seed)
    model = discriminator()
    sr.reparameterize(model, 3, method, frames, spectrum, "orthogonal", recompute=recompute, seed=seed)
    disturb_(model, seed)
    for layer in spectral_layers(model).values():
        layer.application = application if application in layer.applications else "weight"
    assert_second_derivatives(model, ALL)
    with sr.cached(model):
        penalty_of(model, ALL)
        assert_second_derivatives_are_those_without_a_cache(model)


def assert_second_derivatives_are_those_without_a_cache(model: nn.Module) -> None:
    inside = torch.autograd.grad(penalty_of(model, ALL), [*model.parameters()], allow_unused=True)
    alone = copy.deepcopy(model)
    outside = torch.autograd.grad(penalty_of(alone, ALL), [*alone.parameters()], allow_unused=True)
    for one, two in zip(inside, outside, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_spectral_normalization_has_exact_second_derivatives():
    # In evaluation, where its vectors stay
    assert_second_derivatives(spectral_normalize(discriminator()).eval(), ALL)


@pytest.mark.parametrize("frames", ["dense", "riemannian", "householder"])
def test_a_conditional_discriminator_has_exact_second_derivatives(frames):
    model = build_model("sngan8_discriminator", num_classes=4, in_channels=3, width=8).double()
    if frames != "dense":
        sr.reparameterize(model, 3, frames=frames, init="orthogonal")
        # Where all values of a spectrum are the largest, there is no derivative
        disturb_(model)
    assert_second_derivatives(model, {"r1": 1.0, "r2": 1.0}, torch.arange(9) % 4)


@pytest.mark.parametrize("method", ["dense", "sn", "sr", "sttp"])
def test_a_step_with_penalties_moves_both_networks(method, tiny_gan):
    recipe = tiny_gan(
        method=method, gradient_penalty=ALL, gan_loss="relativistic", conditional=True, accumulate=2,
        discriminator_steps=1,
    )  # fmt: skip
    gan = task(recipe)
    before = {name: [p.detach().clone() for p in player.model.parameters()] for name, player in gan.players.items()}
    gan.step(draws(recipe, gan), 1e-2)
    for name, player in gan.players.items():
        assert any(not torch.equal(a, b) for a, b in zip(before[name], player.model.parameters(), strict=True)), name


def test_a_step_follows_the_gradient_of_the_loss_and_its_penalty(tiny_gan, monkeypatch):
    # Of real images alone, as others are drawn anew
    monkeypatch.setattr(
        "sttp_riemann.lab.training.gan.LOSSES", {"hinge": GanLoss(lambda real, _: real.mean(), torch.add)}
    )
    found = []
    for count in (1, 2):
        gan = task(tiny_gan(method="dense", accumulate=count, gradient_penalty={"r1": 4.0}))
        model = copy.deepcopy(gan.discriminator.model)
        gan._step_discriminator(torch.arange(8), 1e-2)
        found.append(torch.cat([p.grad.flatten() for p in gan.discriminator.model.parameters()]))
        real = gan.data.batch(torch.arange(8))[0].requires_grad_()
        scores = model(real)
        (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        (scores.mean() + 2 * slope.square().sum((1, 2, 3)).mean()).backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(found[-1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient_penalty": {"r3": 1.0}}, "gradient_penalty has weights of r1, r2, wgan_gp, not of 'r3'"),
        ({"gradient_penalty": {"r1": 0.0}}, "gradient_penalty must be a mapping"),
        ({"gradient_penalty": {"r1": 1.0}, "precision": "fp16", "device": "auto"}, "set precision to 'bf16'"),
    ],
)
def test_a_penalty_that_cannot_be_is_refused_in_one_line(changes, message, tiny_gan):
    with pytest.raises(RecipeError, match=message):
        tiny_gan(**changes)


def test_batch_normalization_is_refused_under_a_penalty(tiny_gan, monkeypatch):
    def network(num_classes=None, in_channels=1):
        return nn.Sequential(
            nn.Conv2d(in_channels, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0)
        )

    monkeypatch.setitem(NETWORKS, "normalized", network)
    changes = {"network": "normalized", "network_options": {}, "method": "dense"}
    task(tiny_gan(**changes))
    with pytest.raises(
        RecipeError, match=r"network 'normalized' has batch normalization: set gradient_penalty to \{\}"
    ):
        task(tiny_gan(**changes, gradient_penalty={"r1": 1.0}))


def test_a_recipe_of_a_file_and_of_the_command_line_have_the_same_penalties():
    recipe = Recipe.from_dict({"task": "gan", "gan": {"gradient_penalty": {"r1": 1, "r2": 0.1}}})
    assert recipe.gan.gradient_penalty == {"r1": 1.0, "r2": 0.1}
    assert recipe == Recipe().changed(task="gan", gradient_penalty={"r1": 1, "r2": 0.1})
