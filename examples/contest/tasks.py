"""The contest on real tasks: every contestant of the fit trains a small network on digits or on Fashion-MNIST.

Three rounds, each of which resumes where it was cut off:

- rates: on seed 0, four learning rates and, while the best one is the least or the largest, up to two more; the rate
  with the best accuracy on held-out images is chosen.
- all: every contestant at its rate on two more seeds (``--seeds``).
- finals: of each family the contestant with the best mean held-out accuracy of these three seeds, on eight fresh ones
  (``--fresh``), against the package's default. Families are fixed beforehand, so that Holm's correction is for five
  comparisons.

One learning rate moves frames and all other parameters. Prints a table; writes every run to ``TASK.csv``, the table to
``TASK-summary.csv``, the finals to ``TASK-finals.csv`` and a figure ``TASK.png``, in the folder given by ``--output``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch
from contestants import CONTESTANTS, Contestant
from figure import plot_task
from tqdm import tqdm

from sttp_riemann.errors import DivergedError, RecipeError
from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.runs import finish
from sttp_riemann.lab.studies.statistics import difference, judge, pair
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.snapshot import Run

HERE = Path(__file__).parent
TASKS = {"digits": 0.95, "fashion": 0.8}
"""Recipe of each task, and the held-out accuracy that steps are counted to."""
OURS = "RiemannianAdam, cores"
MORE = 2
"""Rates that are tried beyond the four, where the best one is at an end."""
BY_NAME = {own.name: own for own in CONTESTANTS if own.task_rates}


class Task:
    """Runs of all contestants on one task, kept in a folder.

    Parameters
    ----------
    name : str
        Of a recipe in this folder.
    folder : Path
        Finished runs in it are not done again.
    changes : dict
        Fields of the recipe to change.
    seeds, fresh : sequence of int
        Those of all contestants, of which the first chooses the rates, and those of the finals.
    """

    def __init__(
        self, name: str, folder: Path, changes: dict[str, Any], seeds: Sequence[int], fresh: Sequence[int]
    ) -> None:
        self.name, self.folder, self.seeds, self.fresh = name, folder, seeds, fresh
        self.recipe = Recipe.from_dict(recipes.read(str(HERE / f"{name}.yaml"))).changed(**changes)
        self.rows: dict[tuple[str, float, int], dict[str, Any]] = {}

    def run(self, own: Contestant, rate: float, seed: int) -> dict[str, Any]:
        """Train one contestant, or read what it came to; its accuracy is 0 if it diverged or could not step."""
        key = own.name, rate, seed
        if key not in self.rows:
            recipe = self.recipe.changed(lr=rate, seed=seed, **own.fields)
            place = self.folder / self.name / own.name.replace(", ", "-").replace(" ", "-") / f"{rate:g}" / str(seed)
            try:
                self.rows[key] = self._row(finish(recipe, place))
            except (DivergedError, ValueError, torch.linalg.LinAlgError) as error:
                tqdm.write(f"{own.name} at {rate:g}, seed {seed}: {error}")
                self.rows[key] = {"validation": 0.0, "test": 0.0, "failed": True}
            tqdm.write(f"{own.name} at {rate:g}, seed {seed}: {100 * self.rows[key]['validation']:.2f} %")
        return self.rows[key]

    def _row(self, result: dict[str, Any]) -> dict[str, Any]:
        history, target = result["history"], TASKS[self.name]
        reached = [look["step"] for look in history if look["validation_accuracy"] >= target]
        return {
            "validation": history[-1]["validation_accuracy"],
            "test": result["final"]["test_accuracy"],
            "steps": reached[0] if reached else math.nan,
            "orthogonality_error": result["largest_orthogonality_error"],
            "failed": False,
            "curve": [(look["step"], look["validation_loss"]) for look in history],
        }

    def choose(self, own: Contestant) -> float:
        """The best rate of a contestant on seed 0, by held-out images."""
        rates = list(own.task_rates)
        for _ in range(MORE + 1):
            scores = {rate: self.run(own, rate, self.seeds[0])["validation"] for rate in sorted(rates)}
            best = max(scores, key=lambda rate: scores[rate])
            if best not in (min(rates), max(rates)):
                break
            if len(rates) < len(own.task_rates) + MORE:
                rates.append(next_rate(best, up=best == max(rates)))
        return best

    def table(self) -> pd.DataFrame:
        """A row for each run."""
        rows = [
            {"contestant": name, "family": BY_NAME[name].family, "rate": rate, "seed": seed, **row}
            for (name, rate, seed), row in self.rows.items()
        ]
        return pd.DataFrame(rows).drop(columns="curve")


def next_rate(rate: float, up: bool) -> float:
    """The rate about three times above one or below it."""
    digit = f"{rate:e}"[0]
    factor = (3 if digit == "1" else 10 / 3) if up else (1 / 3 if digit == "3" else 0.3)
    return float(f"{rate * factor:.1g}")


def milliseconds(task: Task, rates: dict[str, float], steps: int) -> dict[str, float]:
    """Median time of a training step, those of all contestants taken in turn.

    Parameters
    ----------
    task : Task
        What to train.
    rates : dict
        Of each contestant.
    steps : int
        Of each.

    Returns
    -------
    dict
        By contestant, in milliseconds.
    """
    runs = {
        name: Run(task.recipe.changed(lr=rate, **BY_NAME[name].fields), task.folder / "timed")
        for name, rate in rates.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(steps):
        for name, run in runs.items():
            begin = perf_counter()
            run.task.step(run.order.draw, rates[name])
            taken[name].append(1000 * (perf_counter() - begin))
    return {name: float(pd.Series(times).median()) for name, times in taken.items()}


def finalists(task: Task, rates: dict[str, float]) -> dict[str, str]:
    """Of each family the contestant with the best mean held-out accuracy; of the package's Riemannian ones the default.

    Returns
    -------
    dict
        Contestant by family.
    """
    means = {
        name: sum(task.rows[name, rate, seed]["validation"] for seed in task.seeds) for name, rate in rates.items()
    }
    found = {}
    for name in rates:
        kind = BY_NAME[name].family
        if kind not in found or means[name] > means[found[kind]]:
            found[kind] = name
    # Its family is the package's own: the default stands for it, whatever it came to
    return {**found, BY_NAME[OURS].family: OURS}


def compare(task: Task, rates: dict[str, float], chosen: dict[str, str]) -> pd.DataFrame:
    """The finals: the default less the best of every other family, in points of test accuracy, paired by seed."""

    def tests(name: str) -> dict[Any, float]:
        return {seed: 100 * task.rows[name, rates[name], seed]["test"] for seed in task.fresh}

    others = {kind: name for kind, name in chosen.items() if name != OURS}
    found = judge([difference(pair(tests(OURS), tests(name))) for name in others.values()])
    rows = []
    for (kind, name), each in zip(others.items(), found, strict=True):
        of = tests(name)
        rows.append(
            {
                "family": kind,
                "contestant": name,
                "rate": rates[name],
                "test": sum(of.values()) / len(of),
                "ours": sum(tests(OURS).values()) / len(of),
                "difference": each.mean,
                "low": each.low,
                "high": each.high,
                "p": each.p,
            }
        )
    return pd.DataFrame(rows)


def summary(task: Task, rates: dict[str, float], times: dict[str, float]) -> pd.DataFrame:
    """What each contestant came to at the chosen rate, on the seeds that all have."""
    rows = []
    for name, rate in rates.items():
        own = [task.rows[name, rate, seed] for seed in task.seeds]
        column = pd.DataFrame([{k: v for k, v in row.items() if k != "curve"} for row in own])
        rows.append(
            {
                "contestant": name,
                "family": BY_NAME[name].family,
                "rate": rate,
                "validation": 100 * column.validation.mean(),
                "test": 100 * column.test.mean(),
                "least_test": 100 * column.test.min(),
                "largest_test": 100 * column.test.max(),
                "steps": _median([row.get("steps", math.nan) for row in own]),
                "orthogonality_error": column.get("orthogonality_error", pd.Series(dtype=float)).max(),
                "ms_a_step": times.get(name, math.nan),
            }
        )
    return pd.DataFrame(rows)


def _median(steps: Sequence[float]) -> float:
    """Median of steps to a target, NaN where at least half of the runs never reach it."""
    found = statistics.median(math.inf if math.isnan(step) else step for step in steps)
    return found if math.isfinite(found) else math.nan


def ready(own: Contestant, task: Task) -> bool:
    """Whether the libraries of a contestant are there; prints what is missing."""
    try:
        Run(task.recipe.changed(lr=own.task_rates[0], **own.fields), task.folder / "rehearsed")
    except RecipeError as error:
        print(f"left out: {own.name}: {error}")
        return False
    return True


def main() -> None:
    """Choose rates, run all seeds and the finals, print the tables, write tables and figure."""
    parser = argparse.ArgumentParser(description="Train a small network with every contestant.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--only", nargs="+", default=[*BY_NAME], choices=[*BY_NAME], metavar="NAME", help="contestants")
    parser.add_argument("--steps", type=int, help="steps of each run, by default those of the recipe")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of all contestants")
    parser.add_argument("--fresh", type=int, default=8, help="further seeds of the finals")
    parser.add_argument("--timed", type=int, default=40, help="steps whose time is taken")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for tables and figure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Measured: rivals without a retraction leave the manifold
    warnings.filterwarnings("ignore", message="frames of layer")
    seeds, fresh = range(given.seeds), range(given.seeds, given.seeds + given.fresh)
    task = Task(given.task, given.runs, {} if given.steps is None else {"steps": given.steps}, seeds, fresh)
    own = [BY_NAME[name] for name in BY_NAME if name in {OURS, *given.only} and ready(BY_NAME[name], task)]
    rates = {each.name: task.choose(each) for each in tqdm(own, desc="rates", mininterval=30)}
    for seed in task.seeds[1:]:
        for each in tqdm(own, desc=f"all, seed {seed}", mininterval=30):
            task.run(each, rates[each.name], seed)
    chosen = finalists(task, rates)
    for seed in task.fresh:
        for each in (each for each in own if each.name in chosen.values()):
            task.run(each, rates[each.name], seed)
    times = milliseconds(task, rates, given.timed)
    table, finals = summary(task, rates, times), compare(task, rates, chosen)
    given.output.mkdir(parents=True, exist_ok=True)
    for suffix, frame in (("", task.table()), ("-summary", table), ("-finals", finals)):
        frame.to_csv(given.output / f"{given.task}{suffix}.csv", index=False, float_format="%.5g")
    for frame in (table, finals):
        print(frame.to_string(index=False, float_format="{:.4g}".format))
    curves = {name: [task.rows[name, rates[name], seed].get("curve", []) for seed in task.seeds] for name in rates}
    plot_task(curves, rates, times, given.output / f"{given.task}.png")


if __name__ == "__main__":
    main()
