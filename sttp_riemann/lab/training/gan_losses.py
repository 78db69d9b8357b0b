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
    discriminator, generator : callable
        From outputs on real and on generated images to a scalar. The outputs on real images are empty in the
        generator's loss unless it is `paired`.
    paired : bool
        Whether both losses compare the i-th real image with the i-th generated one. The generator's step then has real
        images of its own, and both images of a pair are of one class.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(fake).mean()


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _wasserstein_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge on the estimated distance itself: without gradient once it exceeds 1."""
    return (1 + _wasserstein(real, fake)).relu()


def _critic(_: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean()


def _non_saturating(_: Tensor, fake: Tensor) -> Tensor:
    return softplus(-fake).mean()


def _tells_apart(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(fake - real).mean()


def _looks_more_real(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(real - fake).mean()


LOSSES = {
    # Lim and Ye 2017, Tran et al. 2017; Miyato et al. 2018, Equations 16 and 17
    "hinge": GanLoss(_hinge, _critic),
    # Goodfellow et al. 2014, Section 3
    "non_saturating": GanLoss(_cross_entropy, _non_saturating),
    # Arjovsky et al. 2017
    "wasserstein": GanLoss(_wasserstein, _critic),
    "wasserstein_hinge": GanLoss(_wasserstein_hinge, _critic),
    # Jolicoeur-Martineau 2018 (arXiv 1807.00734); Huang et al. 2024 (arXiv 2501.05441)
    "relativistic": GanLoss(_tells_apart, _looks_more_real, paired=True),
}
"""Losses by their names in recipes."""
