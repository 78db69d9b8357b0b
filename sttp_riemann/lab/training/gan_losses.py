"""Losses of discriminator and generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class GanLoss:
    """A pair of losses over the discriminator's outputs, each (N,) and higher for what looks real.

    Attributes
    ----------
    discriminator : callable
        From outputs on real and on generated images to a scalar.
    generator : callable
        From outputs on generated images to a scalar.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(fake).mean()


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _wasserstein_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge on the estimated distance itself: without gradient once it exceeds 1."""
    return (1 + _wasserstein(real, fake)).relu()


def _critic(fake: Tensor) -> Tensor:
    return -fake.mean()


LOSSES = {
    # Lim and Ye 2017, Tran et al. 2017; Miyato et al. 2018, Equations 16 and 17
    "hinge": GanLoss(_hinge, _critic),
    # Goodfellow et al. 2014, Section 3
    "non_saturating": GanLoss(_cross_entropy, lambda fake: softplus(-fake).mean()),
    # Arjovsky et al. 2017
    "wasserstein": GanLoss(_wasserstein, _critic),
    "wasserstein_hinge": GanLoss(_wasserstein_hinge, _critic),
}
"""Losses by their names in recipes."""
