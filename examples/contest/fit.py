"""An audited contest: fit weights that every contestant can represent exactly, and measure what it keeps.

A contestant is an optimizer with the frames that it trains: the package's own, and the rivals in ``rivals``. For each
the script measures

- the gauge error, in float64: two copies of a layer with the same weight in two gauges see the same 30 batches; the
  relative Frobenius distance of their weights afterwards;
- the largest orthogonality error over a run in float32;
- the realizable fit, in float64: the relative loss over steps and over seconds, at the learning rate of four whose
  median final loss on other targets is least. The targets are random weights of the layer's own ranks, so the least
  loss is 0. Steps of all contestants alternate in one process, so their seconds compare.

Prints a table; writes every loss to ``contest.csv``, what the rates were chosen by to ``rates.csv``, the table to
``summary.csv`` and the figure ``contest.png``, in the folder given by ``--output``. The study in docs/studies/contest
is ``--targets 6 --steps 500``.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import pandas as pd
import torch
from contestants import CONTESTANTS, Contestant
from figure import plot
from measure import Fit, gauge, orthogonality

from sttp_riemann.errors import RecipeError

LOOKS, REACHED = 50, 1e-8


def run(fits: list[Fit], steps: int) -> pd.DataFrame:
    """Take the steps of all contestants in turn, at rates that decay to 0.

    Parameters
    ----------
    fits : list of Fit
        Fresh ones.
    steps : int
        Of each.

    Returns
    -------
    pandas.DataFrame
        A row for each contestant, target and look.
    """
    rows = []
    for step in range(steps + 1):
        for fit in fits:
            fit.advance(1 - step / (steps + 1))
            if step % max(1, steps // LOOKS) == 0 or step == steps:
                seen = enumerate(fit.losses)
                rows += [(fit.own.name, fit.rate, target, step, fit.seconds, loss) for target, loss in seen]
    return pd.DataFrame(rows, columns=["contestant", "rate", "target", "step", "seconds", "loss"])


def ready(own: Contestant) -> bool:
    """Whether the libraries of a contestant are there; prints what is missing."""
    try:
        Fit(own, own.rates[0], 1, seed=0)
    except RecipeError as error:
        print(f"left out: {own.name}: {error}")
        return False
    return True


def choose(own: Contestant, targets: int, steps: int) -> pd.DataFrame:
    """Final losses at all rates of a contestant, on targets that are not reported.

    Returns
    -------
    pandas.DataFrame
        A row for each rate and target.
    """
    found = run([Fit(own, rate, targets, seed=100) for rate in own.rates], steps)
    return found[found.step == steps].drop(columns=["step", "seconds"])


def summary(found: pd.DataFrame, steps: int) -> pd.DataFrame:
    """What each contestant keeps, and how well it fits; a loss under 1e-8 counts as reached."""
    last, rows = found[found.step == steps], []
    for own in CONTESTANTS:
        of = last[last.contestant == own.name]
        if of.empty:
            continue
        rate = of.rate.iloc[0]
        medians = found[found.contestant == own.name].groupby("step")[["loss", "seconds"]].median()
        there = medians[medians.loss < REACHED].reset_index()
        rows.append(
            {
                "contestant": own.name,
                "rate": rate,
                "edge": "low" if rate == min(own.rates) else "high" if rate == max(own.rates) else "",
                "gauge_error": gauge(own, rate),
                "orthogonality_error": orthogonality(own, rate, steps),
                "reached": int((of.loss < REACHED).sum()),
                "median_loss": of.loss.median(),
                "largest_loss": of.loss.max(),
                "steps_to_reach": math.nan if there.empty else there.step.iloc[0],
                "seconds_to_reach": math.nan if there.empty else there.seconds.iloc[0],
                "ms_a_step": 1000 * of.seconds.max() / (steps + 1),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Choose the rates, fit, measure, print the table, write tables and figure."""
    names = [own.name for own in CONTESTANTS]
    parser = argparse.ArgumentParser(description="Fit weights that every contestant can represent exactly.")
    parser.add_argument("--targets", type=int, default=2, help="reported targets; half as many choose the rates")
    parser.add_argument("--steps", type=int, default=20, help="steps of each fit")
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME", help="contestants")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for tables and figure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Measured below: rivals without a retraction leave the manifold
    warnings.filterwarnings("ignore", message="frames of layer")
    own = [contestant for contestant in CONTESTANTS if contestant.name in given.only and ready(contestant)]
    if not own:
        parser.error("no contestant is left")
    rates = pd.concat([choose(each, max(1, given.targets // 2), given.steps) for each in own])
    medians = rates.groupby(["contestant", "rate"]).loss.median()
    best = {each.name: medians[each.name].idxmin() for each in own}
    found = run([Fit(each, best[each.name], given.targets, seed=0) for each in own], given.steps)
    table = summary(found, given.steps)
    print(table.to_string(index=False, float_format="{:.2g}".format))
    given.output.mkdir(parents=True, exist_ok=True)
    for name, frame in (("contest", found), ("rates", rates), ("summary", table)):
        frame.to_csv(given.output / f"{name}.csv", index=False, float_format="%.3g")
    plot(found, given.output / "contest.png")
    print(f"written to {given.output / 'contest.csv'} and {given.output / 'contest.png'}")


if __name__ == "__main__":
    main()
