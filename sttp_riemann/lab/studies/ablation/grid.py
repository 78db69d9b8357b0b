"""Runs over ranks and learning rates, and what they reach."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sttp_riemann.errors import DivergedError
from sttp_riemann.lab.studies.ablation.settings import PATHS, Settings
from sttp_riemann.lab.studies.compare import finish
from sttp_riemann.lab.studies.results import Result, two_deviations
from sttp_riemann.lab.studies.workers import spread
from sttp_riemann.lab.training.recipe import Recipe

# Rates at which a variant comes as near to its best as this, in points, count as good for it
NEAR = 1.0


@dataclass(frozen=True)
class Cell:
    """One variant at one learning rate, over all seeds.

    Attributes
    ----------
    accuracies : tuple of float
        Final test accuracy of each seed in percent; 0 for a run that diverged.
    steps : tuple of int or None
        Steps of each seed to the first evaluation at the target; None where it is not reached.
    step_ms : float
        Median time of a step, in milliseconds; NaN if every run diverged.
    """

    method: str
    frames: str
    rank: int
    rate: float
    accuracies: tuple[float, ...]
    steps: tuple[int | None, ...]
    step_ms: float

    @property
    def accuracy(self) -> float:
        """Mean over seeds, in percent."""
        return statistics.fmean(self.accuracies)

    @property
    def two_sd(self) -> float:
        """Two standard deviations over seeds; NaN for a single one."""
        return two_deviations(self.accuracies)

    @property
    def typical_steps(self) -> float | None:
        """Median over seeds of the steps to the target; None if most seeds do not reach it."""
        median = statistics.median(float("inf") if s is None else s for s in self.steps)
        return None if median == float("inf") else median


@dataclass(frozen=True)
class Variant:
    """One method on one path at one rank, at every learning rate."""

    method: str
    frames: str
    rank: int
    cells: tuple[Cell, ...]

    @property
    def best(self) -> Cell:
        """At the rate with the highest mean accuracy."""
        return max(self.cells, key=lambda cell: cell.accuracy)

    @property
    def fastest(self) -> Cell | None:
        """At the rate that reaches the target in the fewest steps; None where none does."""
        reached = [c for c in self.cells if c.typical_steps is not None]
        return min(reached, key=lambda cell: cell.typical_steps or 0.0) if reached else None

    @property
    def good_rates(self) -> list[float]:
        """Rates within a point of the best."""
        return [c.rate for c in self.cells if c.accuracy >= self.best.accuracy - NEAR]

    @property
    def mean_accuracy(self) -> float:
        """Mean over all rates: what a rate drawn blindly gives."""
        return statistics.fmean(c.accuracy for c in self.cells)


def run_grid(settings: Settings, folder: Path, workers: int = 1) -> list[Variant]:
    """Do all runs that are not done yet.

    Parameters
    ----------
    settings : Settings
        What to vary.
    folder : Path
        Where the runs are kept, each in a folder of its own.
    workers : int
        How many runs are under way at a time.

    Returns
    -------
    list of Variant
        By method, rank and path.

    Raises
    ------
    ReportedError
        A run cannot be had; what was finished stays.
    """
    variants = list(itertools.product(settings.methods, settings.ranks, PATHS))
    # Seeds outermost: a machine that is slower for a while slows all variants alike
    keys = [(*v, rate, s) for s in settings.recipe.study.seeds for rate in settings.rates for v in variants]
    tasks = []
    for method, rank, frames, rate, seed in keys:
        run = settings.run(method, frames, rank, rate, seed)
        tasks.append((run, folder / f"{run.label}-rank{rank}-lr{rate:g}" / f"seed{seed}"))
    found: dict[tuple[object, ...], Result | None] = {}
    with tqdm(total=len(tasks), desc="ablation", unit="run", disable=None) as bar:
        for index, result in spread(outcome, tasks, workers):
            found[keys[index]] = result
            bar.update()
    return [
        Variant(m, f, r, tuple(_cell(settings, m, f, r, rate, found) for rate in settings.rates))
        for m, r, f in variants
    ]


def outcome(recipe: Recipe, folder: Path) -> Result | None:
    """Get the result of a run; None if it diverges, which at some rate every method does."""
    try:
        return finish(recipe, folder)
    except DivergedError:
        return None


def _cell(
    settings: Settings,
    method: str,
    frames: str,
    rank: int,
    rate: float,
    found: dict[tuple[object, ...], Result | None],
) -> Cell:
    results = [found[method, rank, frames, rate, seed] for seed in settings.recipe.study.seeds]
    times = [r["median_step_ms"] for r in results if r is not None]
    return Cell(
        method,
        frames,
        rank,
        rate,
        tuple(0.0 if r is None else 100 * r["final"]["test_accuracy"] for r in results),
        tuple(steps_to(r, settings.target) for r in results),
        statistics.median(times) if times else float("nan"),
    )


def steps_to(result: Result | None, target: float) -> int | None:
    """Steps to the first evaluation with that test accuracy in percent; None where there is none."""
    history: Sequence[Result] = [] if result is None else result["history"]
    return next((row["step"] for row in history if 100 * row["test_accuracy"] >= target), None)
