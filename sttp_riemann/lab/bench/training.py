"""A full training step of the paper's networks, dense and at low rank."""

from __future__ import annotations

from functools import partial

from sttp_riemann.lab.bench.contest import Contest, Contestant
from sttp_riemann.lab.bench.networks import build_step, studies
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.variants import DENSE, VARIANTS


def contests(settings: Settings) -> list[Contest]:
    """List one contest a network, all variants in it."""
    found = []
    for index, study in enumerate(studies(settings.quick)):
        builds = (partial(build_step, index, settings.quick, v) for v in range(len(VARIANTS)))
        contestants = tuple(
            Contestant(variant.name, partial(build, settings.device, settings.compile))
            for variant, build in zip(VARIANTS, builds, strict=True)
        )
        found.append(Contest(study.case, contestants, DENSE.name))
    return found
