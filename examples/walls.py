"""Walls of the reduced Householder chart: three ways to fit a weight that each of them can represent exactly.

Every target is a random weight of the layer's own ranks, so the least loss is 0. The layer is trained from an
orthogonal start by Adam, its rate decayed to 0: on Stiefel manifolds; as Householder reflectors whose first rows lead,
as in the paper; and as Householder reflectors whose leading rows are chosen anew, every 20 steps, where the smallest
singular value of a leading block has fallen under 0.1. That value is the chart's margin: at 0 the chart folds, and no
step leads across.

Prints how many targets are reached, with a relative loss under 1e-8, and the median loss; writes every loss to
``walls.csv`` and plots loss and margin over the steps into ``walls.png``, in the folder given by ``--output``. The
study in docs/studies/walls is ``--targets 20 --steps 4000 --method sttp svdp --spectrum identity learned``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from torch import nn

import sttp_riemann as sr

RATE, EVERY, MARGIN, LOOKS, REACHED = 0.03, 20, 0.1, 25, 1e-8
FRAMES = {
    "Riemannian": {"frames": "riemannian"},
    "Householder, first rows lead": {"frames": "householder", "pivots": False},
    "Householder, pivoted": {"frames": "householder", "pivots": True},
}


def fit(name: str, method: str, spectrum: str, targets: int, steps: int) -> pd.DataFrame:
    """Fit all targets side by side, each by a layer of its own, and look at them 25 times.

    Returns
    -------
    pandas.DataFrame
        A row for each target and look.
    """
    layers = nn.ModuleList(nn.Linear(64, 96, bias=False, dtype=torch.float64) for _ in range(targets))
    teachers = nn.ModuleList(nn.Linear(64, 96, bias=False, dtype=torch.float64) for _ in range(targets))
    options = {"rank": 8, "method": method, "spectrum": spectrum, "init": "orthogonal"}
    sr.reparameterize(teachers, seed=1, **options)
    sr.reparameterize(layers, seed=0, **options, **FRAMES[name])
    wanted = [teacher.weight.detach() for teacher in teachers]
    kind = sr.RiemannianAdam if name == "Riemannian" else torch.optim.Adam
    optimizer = kind(layers.parameters(), lr=RATE)
    sr.register_gauge_fix(layers, optimizer, every=EVERY, margin=MARGIN)
    rows = []
    for step in range(steps + 1):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / (steps + 1))
        with sr.cached(layers):
            losses = [(own.weight - w).square().sum() / w.square().sum() for own, w in zip(layers, wanted, strict=True)]
            optimizer.zero_grad()
            sum(losses).backward()
        if step % max(1, steps // LOOKS) == 0 or step == steps:
            seen = [(loss.item(), sr.chart_margin(own)) for loss, own in zip(losses, layers, strict=True)]
            rows += [(method, spectrum, name, target, step, *values) for target, values in enumerate(seen)]
        optimizer.step()
    return pd.DataFrame(rows, columns=["method", "spectrum", "frames", "target", "step", "loss", "margin"])


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """How many targets are reached at the last step, and the losses there."""
    last = found[found.step == found.step.max()].groupby(["method", "spectrum", "frames"], sort=False)
    return last.agg(
        targets=("loss", "size"),
        reached=("loss", lambda losses: int((losses < REACHED).sum())),
        median_loss=("loss", "median"),
        largest_loss=("loss", "max"),
        median_margin=("margin", "median"),
    ).reset_index()


def plot(found: pd.DataFrame, file: Path) -> None:
    """Draw loss and margin over the steps: a line a target, a column of panels for each method and spectrum."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(found.groupby(["method", "spectrum"], sort=False))
    size = (4.2 * len(cases), 5.6)
    figure, axes = pyplot.subplots(2, len(cases), figsize=size, squeeze=False, sharex=True, layout="constrained")
    for ((method, spectrum), case), (top, bottom) in zip(cases, axes.T, strict=True):
        for number, name in enumerate(FRAMES):
            lines = case[case.frames == name].pivot_table(index="step", columns="target", values=["loss", "margin"])
            for axis, value in ((top, "loss"), (bottom, "margin")):
                axis.plot(lines.index, lines[value], color=f"C{number}", alpha=0.25, linewidth=0.8)
                axis.plot(lines.index, lines[value].median(axis=1), color=f"C{number}", linewidth=2, label=name)
        top.set(title=f"{method.upper()}, {spectrum} spectrum", yscale="log")
        bottom.set(xlabel="step", ylim=(0, None))
        bottom.axhline(MARGIN, color="gray", linewidth=0.8, linestyle=":")
    axes[0, 0].set_ylabel("relative loss")
    axes[1, 0].set_ylabel("chart margin")
    axes[0, 0].legend(fontsize="small")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Fit, print the summary, write the table and the figure."""
    parser = argparse.ArgumentParser(description="Fit weights that every kind of frames can represent.")
    parser.add_argument("--targets", type=int, default=2, help="targets of each method and spectrum")
    parser.add_argument("--steps", type=int, default=300, help="steps of Adam")
    parser.add_argument("--method", nargs="+", default=["sttp"], choices=["sttp", "svdp"])
    parser.add_argument("--spectrum", nargs="+", default=["identity"], choices=["identity", "learned", "free"])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for walls.csv and walls.png")
    given = parser.parse_args()
    cases = [(name, method, spectrum) for method in given.method for spectrum in given.spectrum for name in FRAMES]
    found = pd.concat([fit(*case, given.targets, given.steps) for case in cases])
    print(summary(found).to_string(index=False, float_format="{:.2g}".format))
    given.output.mkdir(parents=True, exist_ok=True)
    found.to_csv(given.output / "walls.csv", index=False, float_format="%.3g")
    plot(found, given.output / "walls.png")
    print(f"written to {given.output / 'walls.csv'} and {given.output / 'walls.png'}")


if __name__ == "__main__":
    main()
