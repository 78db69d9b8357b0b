"""Tables and figure of the adapters' example."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from sttp_riemann.lab.studies.report import markdown_table
from sttp_riemann.lab.studies.statistics import difference, interval, judge

REFERENCE = "peft lora"
UNSCALED = ("peft oft", "peft hra")  # they turn a weight, to which no scale applies


def fresh(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that are told: each method at what seed 0 chose, if it tried several rates or scales, without that seed."""
    told = []
    for _, own in runs.groupby(["size", "name"], sort=False):
        trials = own[own.seed == 0]
        best = trials.loc[trials.held_out.idxmin()] if len(trials) else own.iloc[0]
        told.append(own[(own.seed > 0) & (own.rate == best.rate) & (own["scale"] == best["scale"])])
    return pd.concat(told)


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals over seeds, and the paired difference from LoRA, with Holm's correction over all of them."""
    rows, differences = [], []
    for (size, name), own in runs.groupby(["size", "name"], sort=False):
        base = runs[(runs["size"] == size) & (runs.name == REFERENCE)].set_index("seed").loss
        gaps = [loss - base[seed] for seed, loss in zip(own.seed, own.loss, strict=True) if seed in base]
        if name != REFERENCE and gaps:
            differences.append((len(rows), difference(gaps)))
        rows.append(
            {
                "adapter": name,
                "LoRA trains": f"{size:,}",
                "rank": f"{own['rank'].iloc[0]}",
                "trained": f"{own.trained.iloc[0]:,}",
                "rate": f"{own.rate.iloc[0]:g}",
                "scale": "–" if name in UNSCALED else f"{own['scale'].iloc[0]:g}",
                "seeds": f"{len(own)}",
                "loss": mean_of([*own.loss], ".4f"),
                "accuracy (%)": mean_of([*own.accuracy], ".2f"),
                "loss less LoRA's": "–",
                "p": "–",
                "ms a step": f"{own.ms.median():.1f}",
                "KiB of gradients and moments": f"{own.bytes.iloc[0] / 1024:.0f}",
            }
        )
    for (row, _), found in zip(differences, judge([d for _, d in differences]), strict=True):
        bounds = "" if math.isnan(found.low) else f" ({found.low:+.4f} to {found.high:+.4f})"
        rows[row]["loss less LoRA's"] = f"{found.mean:+.4f}{bounds}"
        rows[row]["p"] = f"{found.p:.2g}"
    return pd.DataFrame(rows)


def mean_of(values: list[float], form: str) -> str:
    """A mean with half its 95 % interval, where there is one."""
    low, high = interval(values)
    return f"{sum(values) / len(values):{form}}" + ("" if math.isnan(low) else f" ± {(high - low) / 2:{form}}")


def drawn(runs: pd.DataFrame) -> Figure:
    """Loss of every seed, method by method, a panel for each size."""
    sizes = [*runs["size"].unique()]
    figure = Figure(figsize=(5 * len(sizes) + 2, 0.32 * runs.name.nunique() + 1.2), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes, strict=True):
        own = runs[runs["size"] == size]
        names = [*runs.name.unique()][::-1]
        axes.axvline(own[own.name == REFERENCE].loss.mean(), color="0.8", linewidth=1)
        for name, group in own.groupby("name"):
            color = "tab:gray" if name.startswith("peft") else "tab:orange" if "sttp" in name else "tab:blue"
            axes.plot(group.loss, [names.index(name)] * len(group), "o", ms=3, alpha=0.6, color=color)
            axes.plot(group.loss.mean(), names.index(name), "|", ms=14, color=color)
        axes.set(title=f"LoRA trains {size:,} numbers", xlabel="loss on code (nats a character)")
        axes.set_yticks(range(len(names)), names)
    return figure


def between(runs: pd.DataFrame) -> list[str]:
    """The paired difference of the two paths, method by method, where both were trained; with a heading."""
    rows, differences = [], []
    for (size, name), own in runs.groupby(["size", "name"], sort=False):
        other = runs[(runs["size"] == size) & (runs.name == name.replace("riemannian", "householder"))]
        if "riemannian" in name and len(other):
            base = other.set_index("seed").loss
            differences.append(difference([a - base[s] for s, a in zip(own.seed, own.loss, strict=True) if s in base]))
            rows.append({"adapter": name.replace("riemannian ", ""), "LoRA trains": f"{size:,}"})
    for row, found in zip(rows, judge(differences), strict=True):
        row["loss, Riemannian less Householder"] = f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        row["p"] = f"{found.p:.2g}"
    return ["## Path against path", markdown_table(pd.DataFrame(rows))] if rows else []
