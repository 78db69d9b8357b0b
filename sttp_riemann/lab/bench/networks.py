"""The networks of the paper whose training step is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sttp_riemann.lab.bench.contest import Run
from sttp_riemann.lab.bench.variants import VARIANTS, noise, training_step
from sttp_riemann.lab.networks import build_model

IMAGE = (3, 32, 32)
CLASSES = 10


@dataclass(frozen=True)
class Study:
    """A network at a rank and a batch size.

    Attributes
    ----------
    title : str
        Name and rank, for the reader.
    network : str
        A key of `sttp_riemann.lab.networks.NETWORKS`.
    adversarial : bool
        A discriminator that sees a real and a fake batch, rather than a classifier.
    rank, batch : int
        Of all layers; images in a batch.
    options : mapping
        Of the network.
    """

    title: str
    network: str
    adversarial: bool
    rank: int
    batch: int
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """Title and batch size."""
        return f"{self.title}, batch {self.batch}"

    def build(self) -> nn.Module:
        """Dense network."""
        torch.manual_seed(0)
        return build_model(self.network, **self.options)

    def loss(self, device: str) -> Callable[[nn.Module], Tensor]:
        """Scalar to minimize, on images and labels that stay the same."""
        images = noise((self.batch, *IMAGE), device)
        if self.adversarial:
            fakes = noise((self.batch, *IMAGE), device, seed=1)
            return lambda model: F.relu(1 - model(images)).mean() + F.relu(1 + model(fakes)).mean()
        labels = torch.arange(self.batch, device=device) % CLASSES
        return lambda model: F.cross_entropy(model(images), labels)


STUDIES = (
    Study("SNGAN-32 discriminator, rank 64", "sngan32_discriminator", True, 64, 64),
    Study("WRN-28-10, rank 64", "wide_resnet", False, 64, 16),
)
QUICK_STUDIES = (
    Study("SNGAN-32 discriminator, width 8, rank 2", "sngan32_discriminator", True, 2, 2, {"width": 8}),
    Study("WRN-10-1, rank 2", "wide_resnet", False, 2, 2, {"depth": 10, "widen_factor": 1}),
)


def studies(quick: bool) -> tuple[Study, ...]:
    """Networks to measure."""
    return QUICK_STUDIES if quick else STUDIES


def wide_resnet(quick: bool) -> Study:
    """Return the network with the most and the largest cores."""
    return studies(quick)[1]


def build_step(study: int, quick: bool, variant: int, device: str, compiled: bool) -> Run:
    """Set up the training step of one of `studies` in one of `VARIANTS`, named by index so that it can travel."""
    chosen = studies(quick)[study]
    return training_step(chosen.build(), VARIANTS[variant], chosen.rank, chosen.loss(device), device, compiled)
