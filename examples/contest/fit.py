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
is ``--targets 6 --steps 1000``.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch
from contestants import CONTESTANTS, Contestant
from figure import plot
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.lab.training.optimizers import build_optimizer, set_lr
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.testing.models import turn_

BATCHES, EVERY, LOOKS, REACHED = 30, 20, 50, 1e-8
RANK, OPTIONS = 8, {"method": "sttp", "spectrum": "identity", "init": "orthogonal"}


class Fit:
    """A contestant that fits several targets side by side, each by a layer of its own."""

    def __init__(self, own: Contestant, rate: float, targets: int, seed: int, dtype: torch.dtype = torch.float64):
        self.own, self.rate, self.seconds = own, rate, 0.0
        self.layers, teachers = (_layers(targets, dtype) for _ in range(2))
        sr.reparameterize(teachers, RANK, seed=seed + 1, **OPTIONS)
        options = {"frames": own.frames, "pivots": own.pivots}
        sr.reparameterize(self.layers, RANK, seed=seed, **OPTIONS, **options)
        self.wanted = [teacher.weight.detach() for teacher in teachers]
        self.optimizer = build_optimizer(self.layers, own.recipe(rate))
        if own.pivots:
            sr.register_gauge_fix(self.layers, self.optimizer, every=EVERY)
        self.losses = [math.inf] * targets
        self.failed = False

    def advance(self, part: float) -> None:
        """Look at the losses, then take a step at this part of the rate; one that fails is the last one."""
        if self.failed:
            return
        begin = perf_counter()
        with sr.cached(self.layers):
            pairs = zip(self.layers, self.wanted, strict=True)
            losses = [(layer.weight - w).square().sum() / w.square().sum() for layer, w in pairs]
            self.optimizer.zero_grad()
            sum(losses).backward()
        self.losses = [loss.item() for loss in losses]
        self.failed = not all(map(math.isfinite, self.losses))
        if not self.failed:
            set_lr(self.optimizer, self.rate * part)
            try:
                self.optimizer.step()
            except (ValueError, torch.linalg.LinAlgError):
                self.failed = True
        if self.failed:
            self.losses = [math.inf] * len(self.losses)
        self.seconds += perf_counter() - begin


def _layers(count: int, dtype: torch.dtype) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(64, 96, bias=False, dtype=dtype) for _ in range(count))


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


def choose(own: Contestant, targets: int, steps: int) -> pd.DataFrame:
    """Final losses at all rates of a contestant, on targets that are not reported.

    Returns
    -------
    pandas.DataFrame
        A row for each rate and target.
    """
    found = run([Fit(own, rate, targets, seed=100) for rate in own.rates], steps)
    return found[found.step == steps].drop(columns=["step", "seconds"])


def orthogonality(own: Contestant, rate: float, steps: int) -> float:
    """Largest orthogonality error over a fit in float32.

    Returns
    -------
    float
        NaN if it fails.
    """
    fit, worst = Fit(own, rate, 1, seed=0, dtype=torch.float32), 0.0
    for step in range(steps):
        fit.advance(1 - step / steps)
        worst = max(worst, sr.orthogonality_error(fit.layers))
    return math.nan if fit.failed else worst


def gauge(own: Contestant, rate: float) -> float:
    """Distance of two copies of a layer, in two gauges, after the same batches.

    Parametrizations begin with the same frames as the two copies, each in a matrix A of its own.

    Returns
    -------
    float
        Relative, in the Frobenius norm; NaN where frames have no gauge, or the optimizer fails.
    """
    if own.frames == "householder":
        return math.nan
    weights = []
    for turned in (False, True):
        points, layers, teacher = (_layers(1, torch.float64) for _ in range(3))
        sr.reparameterize(points, RANK, seed=0, **OPTIONS)
        sr.reparameterize(layers, RANK, seed=0, **OPTIONS, frames=own.frames, pivots=False)
        sr.reparameterize(teacher, RANK, seed=1, **OPTIONS)
        if turned:
            turn_(points)
        _take(layers, points)
        optimizer = build_optimizer(layers, own.recipe(rate))
        generator = torch.Generator().manual_seed(2)
        for _ in range(BATCHES):
            inputs = torch.randn(32, 64, dtype=torch.float64, generator=generator)
            optimizer.zero_grad()
            (layers[0](inputs) - teacher[0](inputs).detach()).square().mean().backward()
            optimizer.step()
        weights.append(layers[0].weight.detach())
    return float(torch.linalg.matrix_norm(weights[1] - weights[0]) / torch.linalg.matrix_norm(weights[0]))


@torch.no_grad()
def _take(model: nn.Module, points: nn.Module) -> None:
    """Give the frames of one model to another one, in the gauge that they have."""
    for layer, other in zip(spectral_layers(model).values(), spectral_layers(points).values(), strict=True):
        for side, given in ((layer.left, other.left), (layer.right, other.right)):
            for k in range(len(given)):
                side.assign_(k, _detached(given[k]))


def _detached(point: Tensor | None) -> Tensor:
    assert point is not None, "every frame of a Riemannian layer is a parameter"
    return point.detach().as_subclass(Tensor)


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
    parser.add_argument("--steps", type=int, default=30, help="steps of each fit")
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME", help="contestants")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for tables and figure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Measured below: rivals without a retraction leave the manifold
    warnings.filterwarnings("ignore", message="frames of layer")
    own = [contestant for contestant in CONTESTANTS if contestant.name in given.only]
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
