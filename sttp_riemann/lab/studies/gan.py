"""What studies of GANs measure, draw and report; see `Kind`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from sttp_riemann.lab.studies import figures
from sttp_riemann.lab.studies.collapse import LASTING, LEAST, detect
from sttp_riemann.lab.studies.findings import baseline
from sttp_riemann.lab.studies.looks import Drawing, panels
from sttp_riemann.lab.studies.measures import COMMON, GENERATOR_SIZE, Measure
from sttp_riemann.lab.studies.page import Kind, Page
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.records import read_records
from sttp_riemann.lab.studies.report import render
from sttp_riemann.lab.studies.runs import Result
from sttp_riemann.lab.studies.statistics import LEVEL, holm, share_interval, share_test
from sttp_riemann.lab.studies.supervised import common_columns

METRICS = (
    Measure("fid", "FID", more=False),
    Measure("kid", "KID x100", more=False, scale=100),
    Measure("is", "IS", more=True),
    Measure("modes", "modes", ",.0f", more=True),
    Measure("modes_kl", "KL of modes", ".3f", more=False),
    Measure("diversity", "diversity", ".3f", more=True),
    Measure("precision", "precision", ".3f", more=True),
    Measure("recall", "recall", ".3f", more=True),
    Measure("ppl", "PPL", ".1f", more=False),
)
ERRORS = (Measure("kid_error", "standard error of KID x100", pool="median", scale=100),)
BESIDE = (
    GENERATOR_SIZE,
    Measure("spectral_norm", "largest spectral norm", pool="max"),
    Measure("collapsed", "collapsed", more=False, pool="count"),
)
SHEETS = 4
"""Moments of training whose samples are shown."""
# More than these are counted only
NAMED = 12


def _columns(result: Result, reading: Reading) -> dict[str, Any]:
    final, found = result["final"], detect(read_records(result))
    return {
        **{m.column: final[m.column] for m in (*METRICS, *ERRORS) if m.column in final},
        **common_columns(result),
        "generator_ratio": result["generator_ratio"],
        "spectral_norm": max(row["largest_spectral_norm"] for row in result["history"]),
        "collapsed": float(found is not None),
        "collapse_step": None if found is None else found.step,
        "collapse_layer": None if found is None else found.layer,
    }


def _collapses(page: Page) -> list[str]:
    """Count the runs of each variant that collapsed, and test which variants differ in that from their baseline."""
    flags = {title: page.rows(title).collapsed for title in page.variants}
    counts = {title: (int(flag.sum()), len(flag)) for title, flag in flags.items()}
    if not any(count for count, _ in counts.values()):
        return ["The detector finds no collapse in any run."]
    alike: dict[tuple[int, int], list[str]] = {}
    for title, found in counts.items():
        alike.setdefault(found, []).append(title)
    shares = []
    for (count, runs), titles in sorted(alike.items(), reverse=True):
        low, high = share_interval(count, runs)
        shares.append(f"{count} of {runs} ({100 * low:.0f} to {100 * high:.0f} %) of {', '.join(titles)}")
    told = [f"Runs that collapsed, with the exact 95 % interval of their share: {'; '.join(shares)}."]
    named = {variant: title for title, variant in page.variants.items()}
    pairs = {title: named[base] for v, title in named.items() if (base := baseline(page, v)) is not None}
    ps = holm([share_test(counts[title], counts[base]) for title, base in pairs.items()])
    differ = [f"{title} from {pairs[title]} (p = {p:.2g})" for title, p in zip(pairs, ps, strict=True) if p <= LEVEL]
    if pairs:
        told.append(
            f"{len(differ)} of {len(pairs)} comparisons show a difference in the number of collapsed runs (Fisher's "
            f"exact test, Holm's correction){': ' if differ else ''}{', '.join(differ)}."
        )
    return told


def _facts(page: Page) -> list[str]:
    collapsed = page.chosen[page.chosen.collapse_step.notna()]
    told = _collapses(page)
    for index, row in collapsed.iterrows() if len(collapsed) <= NAMED else ():
        told.append(f"{row.variant}, seed {row.seed}, collapsed: {detect(read_records(page.results[int(index)]))}.")
    recipe = page.results[0]["recipe"]
    count = recipe["metric_samples"]
    if recipe["metrics"] and recipe["extractor"] in ("digits", "stacked_digits"):
        told.append(
            f"Metrics are of {count:,} samples seen through a small network trained on the digits: they compare the "
            "rows of this table and nothing else."
        )
    elif (count, recipe["steps"]) != (50_000, 100_000) and any(c.startswith("paper_") for c in page.table):
        told.append(
            "The paper trains 100,000 steps and measures 50,000 samples; here it was "
            f"{recipe['steps']:,} and {count:,}."
        )
    return told


def _metrics(page: Page) -> Drawing:
    series: dict[str, tuple[figures.Value, figures.Scale]] = {
        f"{m.name} ({'more' if m.more else 'less'} is better)": (partial(_figure, m), "linear")
        for m in METRICS
        if m.column in page.table
    }
    return figures.over_steps(page, "metrics", "Metrics of samples over steps", read_records, series)


def _figure(measure: Measure, record: Mapping[str, Any]) -> float:
    return measure.scale * float(record["figures"][measure.column])


def _stability(page: Page) -> Drawing:
    series: dict[str, tuple[figures.Value, figures.Scale]] = {
        "largest spectral norm": (lambda r: max(layer["spectral_norm"] for layer in r["layers"].values()), "log"),
        "mean relative stable rank": (_relative_stable_rank, "linear"),
        "gradient norm": (lambda r: math.hypot(*(layer["gradient_norm"] for layer in r["layers"].values())), "log"),
        "output on real images": (lambda r: float(np.mean(r["outputs"]["real"])), "far"),
        "output on generated images": (lambda r: float(np.mean(r["outputs"]["fake"])), "far"),
    }
    return figures.over_steps(page, "stability", "The discriminator over steps", read_records, series)


def _relative_stable_rank(record: Mapping[str, Any]) -> float:
    layers = [layer for layer in record["layers"].values() if len(layer["top"]) > 1]
    return float(np.mean([layer["stable_rank"] / len(layer["top"]) for layer in layers]))


def _spectra(page: Page) -> Drawing:
    def top(result: Result) -> dict[str, list[float]]:
        return {name: layer["top"] for name, layer in read_records(result)[-1]["layers"].items()}

    return figures.draw_spectra(page, top, "discriminator's layers")


def _samples(page: Page) -> Drawing | None:
    steps = [row["step"] for row in page.results[0]["history"]]
    chosen = [steps[i] for i in sorted({round(x) for x in np.linspace(0, len(steps) - 1, SHEETS)})]
    return _gallery(page, "samples", "Samples of the same noise over training, first seed.", chosen)


def _interpolations(page: Page) -> Drawing | None:
    caption = "Spherical interpolation between six pairs of latent points after training, first seed."
    return _gallery(page, "interpolations", caption, [page.results[0]["history"][-1]["step"]])


def _gallery(page: Page, name: str, caption: str, steps: Sequence[int]) -> Drawing | None:
    """Draw sheets of images; None where no run has them: an archive of runs has not."""
    titles = figures.shown(page)
    if not any((Path(page.first(title)["folder"]) / name).is_dir() for title in titles):
        return None
    columns = len(steps) if len(steps) > 1 else min(3, len(titles))
    figure, grid = panels(len(titles) * len(steps), columns, (2.3, 2.45) if len(steps) > 1 else (4.2, 3.0))
    for axes, (title, step) in zip(grid, product(titles, steps), strict=True):
        path = Path(page.first(title)["folder"]) / name / f"{step:09d}.png"
        axes.set(title=f"{title}\nstep {step}")
        axes.title.set_fontsize(9)
        axes.set_axis_off()
        # A run that ended early has no samples of later steps
        if path.is_file():
            axes.imshow(matplotlib.image.imread(path), interpolation="nearest")
    return Drawing(name, f"{caption}{figures.only_largest(page)}", figure)


GAN = Kind(
    measures=(*METRICS, *ERRORS, *COMMON, *BESIDE),
    columns=_columns,
    figures=(figures.points, figures.compression, _metrics, _stability, _spectra, _samples, _interpolations),
    facts=_facts,
    notes=render("studies/gan.md.j2", least=LEAST, lasting=LASTING),
)
