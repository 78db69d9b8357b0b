from __future__ import annotations

import math

import pytest
import torch

from sttp_riemann.lab.training.gan_losses import LOSSES

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("hinge", (0 + 1) / 2 + (0 + 2) / 2, 1.0),
        (
            "non_saturating",
            (softplus(-2) + softplus(0)) / 2 + (softplus(-3) + softplus(1)) / 2,
            (softplus(3) + softplus(-1)) / 2,
        ),
        ("wasserstein", -1 - 1, 1.0),
        # The estimated distance is 2, beyond the margin of 1
        ("wasserstein_hinge", 0.0, 1.0),
        # Differences of the pairs are 5 and -1
        ("relativistic", (softplus(-5) + softplus(1)) / 2, (softplus(5) + softplus(-1)) / 2),
    ],
)
def test_a_loss_has_the_value_of_its_formula(name, discriminator, generator):
    assert LOSSES[name].discriminator(REAL, FAKE).item() == pytest.approx(discriminator, abs=1e-6)
    assert LOSSES[name].generator(REAL, FAKE).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_discriminator_gains_by_telling_real_from_generated(name):
    together = torch.zeros(4)
    assert LOSSES[name].discriminator(together + 0.3, together - 0.3) < LOSSES[name].discriminator(together, together)


@pytest.mark.parametrize("name", LOSSES)
def test_a_generator_gains_by_looking_real(name):
    real = torch.zeros(4)
    assert LOSSES[name].generator(real, torch.ones(4)) < LOSSES[name].generator(real, -torch.ones(4))


@pytest.mark.parametrize("name", LOSSES)
def test_only_a_paired_loss_needs_real_images_in_the_generators_step(name):
    loss = LOSSES[name]
    if loss.paired:
        assert loss.generator(REAL, FAKE) != loss.generator(REAL + 1, FAKE)
    else:
        assert loss.generator(REAL[:0], FAKE) == loss.generator(REAL + 1, FAKE)


def test_the_relativistic_loss_sees_differences_of_pairs_alone():
    loss = LOSSES["relativistic"]
    for part in (loss.discriminator, loss.generator):
        torch.testing.assert_close(part(REAL + 3, FAKE + 3), part(REAL, FAKE))
        assert part(REAL, FAKE.flip(0)) != pytest.approx(part(REAL, FAKE).item())
