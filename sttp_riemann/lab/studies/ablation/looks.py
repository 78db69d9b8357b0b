"""All that is measured of a variant, brought together."""

from __future__ import annotations

from dataclasses import dataclass

from sttp_riemann.lab.studies.ablation.drift import Drift, drift
from sttp_riemann.lab.studies.ablation.gradients import Probe, condition, probe
from sttp_riemann.lab.studies.ablation.grid import Variant
from sttp_riemann.lab.studies.ablation.settings import Settings


@dataclass(frozen=True)
class Look:
    """A variant and what was seen of it beside its accuracy."""

    variant: Variant
    probe: Probe
    drift: Drift

    @property
    def start(self) -> float:
        """Condition of the differential before training."""
        return condition(self.probe.start)

    @property
    def end(self) -> float:
        """Condition of the differential after training."""
        return condition(self.probe.end)

    @property
    def spread(self) -> float:
        """Spread of the gradient norms along the run."""
        return self.probe.spread


def measure(settings: Settings, method: str, frames: str, rank: int) -> tuple[Probe, Drift]:
    """Probe a run of a small network at the recipe's learning rate, and let a layer drift."""
    run = settings.run(method, frames, rank, settings.recipe.optimizer.lr, settings.recipe.study.seeds[0])
    small = run.changed(network_options={**run.network.options, **settings.probe_options})
    return probe(small), drift(method, frames, rank, settings.drift_steps)
