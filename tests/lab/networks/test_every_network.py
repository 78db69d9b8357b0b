"""What holds of every network that has a row: a new one inherits these."""

import re

import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.lab.networks import NETWORKS, build_model
from sttp_riemann.lab.networks.baselines import BASELINES, remove_baseline

SMALL = {
    "digits_resnet": {"width": 8, "depth": 1},
    "cifar_resnet": {"depth": 8, "width": 4},
    "wide_resnet": {"depth": 10, "widen_factor": 1},
    "char_transformer": {"width": 16, "depth": 1},
}
"""Options that make a row small; none are needed."""


def build(name):
    torch.manual_seed(0)
    width = {"width": 16} if name.startswith("sngan") else {}
    return build_model(name, in_channels=3, **SMALL.get(name, width)).eval()


def example(name, model):
    if name == "char_transformer":
        return torch.randint(128, (2, 3))
    side = int((re.findall(r"\d+", name) or [32])[0])
    latent = getattr(model, "latent_dim", None)
    return torch.randn(2, latent) if latent else torch.randn(2, 3, side, side)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_global_seed_decides_the_weights(name):
    one, two = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("frames", sr.frames.FRAMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_lives_on_every_path_and_can_be_made_dense_again(name, frames):
    model = build(name)
    x = example(name, model)
    shape = model(x).shape
    spectral = sr.reparameterize(model, 4, frames=frames, init="orthogonal")
    found = spectral(x)
    assert found.shape == shape
    found.square().mean().backward()
    assert any(p.grad is not None for p in spectral.parameters())
    torch.testing.assert_close(sr.decompress(spectral)(x), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("name", [name for name in NETWORKS if "8" in name])
def test_baselines_hold_it(name, baseline):
    model = build(name)
    x = example(name, model)
    held = BASELINES[baseline](model).eval()
    torch.testing.assert_close(remove_baseline(held)(x), held(x), rtol=1e-4, atol=1e-5)
