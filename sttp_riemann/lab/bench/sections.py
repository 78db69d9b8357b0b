"""The rows of the benchmark: what is measured, how, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sttp_riemann.lab.bench import calls, frames, growth, memory, optimizer, training, weights
from sttp_riemann.lab.bench.contest import Contest, Entry
from sttp_riemann.lab.bench.race import race
from sttp_riemann.lab.bench.settings import Settings


@dataclass(frozen=True)
class Job:
    """A part of a section that is measured in one go."""

    label: str
    measure: Callable[[], list[Entry]]


@dataclass(frozen=True)
class Section:
    """One row of the issue, which is one table of the report.

    Attributes
    ----------
    title : str
        Heading.
    about : str
        What was done, for a reader of the table.
    unit : {"seconds", "bytes", "calls"}
        Of the values.
    reference : str
        What ratios are relative to, after "times".
    plan : callable
        Jobs under given settings.
    figure : {"", "bars", "curves"}
        How to draw it, if at all.
    """

    title: str
    about: str
    unit: str
    reference: str
    plan: Callable[[Settings], list[Job]]
    figure: str = ""


def _races(contests: Callable[[Settings], list[Contest]]) -> Callable[[Settings], list[Job]]:
    return lambda settings: [Job(c.case, partial(race, c, settings)) for c in contests(settings)]


def _memory(settings: Settings) -> list[Job]:
    return [Job(c.case, partial(memory.measure, c, settings)) for c in training.contests(settings)]


def _calls(settings: Settings) -> list[Job]:
    return [Job("operator calls", partial(calls.measure, settings))]


SECTIONS = {
    "frames": Section(
        "Householder frames",
        "Forward and backward of a batch of frames, (batch, d, r), from their parameters, against a fixed gradient. "
        "Compact WY, torch-householder and householder_product start from the same reflectors; the bank, torch's "
        "parametrization and geotorch from parameters of their own for the same frames.",
        "seconds",
        "the time of compact WY",
        _races(frames.contests),
        "bars",
    ),
    "optimizer": Section(
        "Optimizer step",
        "Gradients in, step out, on every core of the network: ours keeps equal cores in one batch; geoopt's own "
        "manifold and optimizer take one parameter a core.",
        "seconds",
        "the time of ours",
        _races(optimizer.contests),
    ),
    "weights": Section(
        "Building all weights",
        "W of every layer from its cores, forward, and backward against fixed gradients of W.",
        "seconds",
        "the time of ours on the Householder path",
        _races(weights.contests),
    ),
    "training": Section(
        "Training step",
        "Forward, backward and optimizer (Adam; on the Riemannian path RiemannianAdam). The discriminator takes the "
        "hinge loss on a real and a fake batch, the classifier cross entropy.",
        "seconds",
        "the dense step",
        _races(training.contests),
        "bars",
    ),
    "memory": Section(
        "Peak memory of a training step",
        "The most that the second step holds beyond what a fresh process has before its network is built: parameters, "
        "gradients, moments and activations. Resident memory on the CPU, what is freed given back at once; the "
        "allocator's on CUDA.",
        "bytes",
        "the dense network's",
        _memory,
        "bars",
    ),
    "growth": Section(
        "Growth with depth, width and rank",
        f"Training step of a chain of equal linear layers, batch {growth.Chain.batch}: {growth.Chain.depth} layers of "
        f"{growth.Chain.width} x {growth.Chain.width} at rank {growth.Chain.rank}, but for what varies. STTP.",
        "seconds",
        "the dense step",
        _races(growth.contests),
        "curves",
    ),
    "calls": Section(
        "Operator calls",
        "Calls of ATen operators, counted by the profiler, for the frames U diag(s) and V of all layers of a network "
        "of equal blocks. Views, which compute nothing, are left out.",
        "calls",
        "the calls for 2 blocks",
        _calls,
    ),
}
"""Sections by the name that the command line takes; the order is that of the report."""
