from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sttp_riemann.lab.training.recipe import Recipe

TINY_GAN = {
    "task": "gan",
    "data": "digits",
    "network": "sngan8_discriminator",
    "network_options": {"width": 8},
    "generator": "sngan8_generator",
    "generator_options": {"width": 8, "latent_dim": 4},
    "rank": 4,
    "spectrum": "identity",
    "lr": 1e-2,
    "betas": [0.0, 0.9],
    "batch_size": 8,
    "discriminator_steps": 2,
    "steps": 4,
    "evaluate_every": 2,
    "checkpoint_every": 1,
    "metrics": [],
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def tiny_gan() -> Callable[..., Recipe]:
    """A recipe of a GAN that trains in a fraction of a second, with any of its fields changed."""

    def make(**changes: Any) -> Recipe:
        return Recipe().changed(**{**TINY_GAN, **changes})

    return make
