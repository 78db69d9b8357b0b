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
