"""The figure of the contest."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd

FAMILIES = {
    "the package's own": ("Riemannian", "Householder"),
    "geoopt": ("geoopt",),
    "Cayley, landing, POGO, SPEL": ("cayley", "landing", "pogo", "spel"),
    "parametrizations, Adam": ("torch", "geotorch"),
}


def plot(found: pd.DataFrame, file: Path) -> None:
    """Draw median losses over steps and over seconds: a column for each family, the same axes for all.

    Parameters
    ----------
    found : pandas.DataFrame
        What `fit.run` returns.
    file : Path
        A PNG.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(FAMILIES), figsize=(17, 7.5), sharex="row", sharey=True, layout="constrained")
    for (title, names), (top, bottom) in zip(FAMILIES.items(), axes.T, strict=True):
        for name, own in found[found.contestant.str.startswith(names)].groupby("contestant", sort=False):
            median = own.groupby("step")[["seconds", "loss"]].median()
            top.plot(median.index, median.loss, label=f"{name}, {own.rate.iloc[0]:g}", linewidth=1.4)
            bottom.plot(median.seconds, median.loss, linewidth=1.4)
        top.set(title=title, yscale="log", xlabel="step")
        bottom.set(xlabel="seconds")
        top.legend(fontsize="x-small", title="contestant, rate", title_fontsize="x-small")
    for axis in axes[:, 0]:
        axis.set_ylabel("relative loss, median")
    figure.savefig(file, dpi=110)


def plot_task(
    curves: dict[str, list[list[tuple[int, float]]]], rates: dict[str, float], times: dict[str, float], file: Path
) -> None:
    """Draw held-out losses over steps and over seconds, the mean of the seeds: a column for each family.

    Parameters
    ----------
    curves : dict
        By contestant, for each seed, (step, loss) of every look; empty for a run that failed.
    rates, times : dict
        By contestant: learning rate, and milliseconds a step.
    file : Path
        A PNG.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(FAMILIES), figsize=(17, 7.5), sharex="row", sharey=True, layout="constrained")
    for (title, names), (top, bottom) in zip(FAMILIES.items(), axes.T, strict=True):
        for name in (name for name in curves if name.startswith(names) and all(curves[name])):
            steps = [step for step, _ in curves[name][0]]
            mean = pd.DataFrame([[loss for _, loss in curve] for curve in curves[name]]).mean()
            top.plot(steps, mean, label=f"{name}, {rates[name]:g}", linewidth=1.4)
            bottom.plot([step * times[name] / 1000 for step in steps], mean, linewidth=1.4)
        top.set(title=title, yscale="log", xlabel="step")
        bottom.set(xlabel="seconds")
        top.legend(fontsize="x-small", title="contestant, rate", title_fontsize="x-small")
    for axis in axes[:, 0]:
        axis.set_ylabel("held-out loss, mean of three seeds")
    figure.savefig(file, dpi=110)
