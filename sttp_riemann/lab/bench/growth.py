"""How a training step's cost grows with depth, width and rank."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.variants import DENSE, STTP, noise, training_step

VARIANTS = (DENSE, *STTP)
ALONG = {"depth": (1, 2, 4, 8, 16), "width": (64, 128, 256, 512, 1024), "rank": (4, 8, 16, 32, 64, 128)}
QUICK_ALONG = {"depth": (1, 2), "width": (8, 12), "rank": (2, 4)}


@dataclass(frozen=True)
class Chain:
    """Equal linear layers with rectifiers between them."""

    depth: int = 4
    width: int = 256
    rank: int = 32
    batch: int = 256


def contests(settings: Settings) -> list[Contest]:
    """List one contest a size, along one dimension at a time."""
    middle = Chain(depth=1, width=8, rank=2, batch=4) if settings.quick else Chain()
    found = []
    for dimension, sizes in (QUICK_ALONG if settings.quick else ALONG).items():
        found += [_contest(dimension, size, replace(middle, **{dimension: size}), settings) for size in sizes]
    return found


def _contest(dimension: str, size: int, chain: Chain, settings: Settings) -> Contest:
    contestants = tuple(
        Contestant(variant.name, partial(build, chain, index, settings.device, settings.compile))
        for index, variant in enumerate(VARIANTS)
    )
    return Contest(f"{dimension} {size}", contestants, DENSE.name)


def build(chain: Chain, variant: int, device: str, compiled: bool) -> Run:
    """Set up the training step of a chain of layers in one of `VARIANTS`."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(chain.depth):
        layers += [nn.Linear(chain.width, chain.width), nn.ReLU()]
    inputs = noise((chain.batch, chain.width), device)
    model = nn.Sequential(*layers)
    return training_step(
        model, VARIANTS[variant], chain.rank, lambda network: network(inputs).square().mean(), device, compiled
    )
