"""The figures of the contest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd

FAMILIES = {
    "the package's own": ("Riemannian", "Householder"),
    "geoopt": ("geoopt",),
    "Cayley, landing, POGO, SPEL": ("cayley", "landing", "pogo", "spel"),
    "parametrizations, Adam": ("torch", "geotorch"),
}


class Line(NamedTuple):
    """Losses of one contestant, by step and by second."""

    name: str
    rate: float
    steps: Sequence[float]
    seconds: Sequence[float]
    losses: Sequence[float]


def plot(found: pd.DataFrame, file: Path) -> None:
    """Draw the median losses of the fit.

    Parameters
    ----------
    found : pandas.DataFrame
        What `fit.run` returns.
    file : Path
        A PNG.
    """
    lines = []
    for name, own in found.groupby("contestant", sort=False):
        median = own.groupby("step")[["seconds", "loss"]].median()
        lines.append(Line(str(name), own.rate.iloc[0], [*median.index], [*median.seconds], [*median.loss]))
    _draw(lines, "relative loss, median", file)


def plot_task(
    curves: dict[str, list[list[tuple[int, float]]]], rates: dict[str, float], times: dict[str, float], file: Path
) -> None:
    """Draw the held-out losses of a task, the mean of the seeds.

    Parameters
    ----------
    curves : dict
        By contestant, for each seed, (step, loss) of every look; empty for a run that failed, which leaves it out.
    rates, times : dict
        By contestant: learning rate, and milliseconds a step.
    file : Path
        A PNG.
    """
    lines = []
    for name in (name for name in curves if all(curves[name])):
        steps = [step for step, _ in curves[name][0]]
        mean = pd.DataFrame([[loss for _, loss in curve] for curve in curves[name]]).mean()
        lines.append(Line(name, rates[name], steps, [step * times[name] / 1000 for step in steps], [*mean]))
    _draw(lines, "held-out loss, mean of seeds", file)


def _draw(lines: Sequence[Line], label: str, file: Path) -> None:
    """Losses over steps and over seconds: a column for each family, the same axes for all."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(FAMILIES), figsize=(17, 7.5), sharex="row", sharey=True, layout="constrained")
    for (title, names), (top, bottom) in zip(FAMILIES.items(), axes.T, strict=True):
        top.set(title=title, yscale="log", xlabel="step")
        bottom.set(xlabel="seconds")
        own = [line for line in lines if line.name.startswith(names)]
        for line in own:
            top.plot(line.steps, line.losses, label=f"{line.name}, {line.rate:g}", linewidth=1.4)
            bottom.plot(line.seconds, line.losses, linewidth=1.4)
        if own:
            top.legend(fontsize="x-small", title="contestant, rate", title_fontsize="x-small")
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    figure.savefig(file, dpi=110)
