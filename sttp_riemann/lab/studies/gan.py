"""What studies of GANs measure, draw and tell; see `Kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.axes import Axes

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import parse_json
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.studies.classify import NOTES, common_columns
from sttp_riemann.lab.studies.collapse import LASTING, LEAST, detect
from sttp_riemann.lab.studies.figures import Series, compression, draw_series, draw_spectra, only_largest, points, shown
from sttp_riemann.lab.studies.looks import Drawing, legend, looks, panels
from sttp_riemann.lab.studies.measures import COMMON, Measure
from sttp_riemann.lab.studies.page import Kind, Page
from sttp_riemann.lab.studies.runs import Result

METRICS = (
    Measure("fid", "FID", more=False),
    Measure("kid", "KID x100", more=False, scale=100),
    Measure("is", "IS", more=True),
    Measure("diversity", "diversity", ".3f", more=True),
    Measure("precision", "precision", ".3f", more=True),
    Measure("recall", "recall", ".3f", more=True),
    Measure("ppl", "PPL", ".1f", more=False),
)
BESIDE = (
    Measure("generator_ratio", "Z of G", unit=" %", pool="first"),
    Measure("spectral_norm", "largest spectral norm", pool="max"),
)
SHEETS = 4
"""Moments of training whose samples are shown."""
# More than these are counted and not named
NAMED = 12
FAR = 20

Record = dict[str, Any]
_RECORD = {
    "step": int,
    "figures": {"diversity": float},
    "layers": Each(
        {**dict.fromkeys(("spectral_norm", "trained_norm", "stable_rank", "gradient_norm"), float), "top": [float]}
    ),
    "outputs": Each([float]),
}


def read_records(result: Result) -> list[Record]:
    """Read what a run recorded at its evaluations, in order.

    Raises
    ------
    CheckpointError
        A record cannot be read.
    """
    records: list[Record] = []
    for path in sorted((Path(result["folder"]) / "stability").glob("*.json")):
        try:
            record = parse_json(path.read_text(encoding="utf-8"))
            check_form(record, _RECORD)
            if record["layers"].keys() != (records or [record])[0]["layers"].keys():
                raise ValueError("its layers are not those of the first")
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read: delete the run's folder to have it anew ({error})"
            ) from error
        # A folder may hold records of a longer run that was there before
        if record["step"] <= result["final"]["step"]:
            records.append(record)
    return records


def _columns(result: Result) -> dict[str, Any]:
    final, found = result["final"], detect(read_records(result))
    return {
        **{m.column: final[m.column] for m in METRICS if m.column in final},
        **common_columns(result),
        "generator_ratio": result["generator_ratio"],
        "spectral_norm": max(row["largest_spectral_norm"] for row in result["history"]),
        "collapse_step": None if found is None else found.step,
        "collapse_layer": None if found is None else found.layer,
    }


def _facts(page: Page) -> list[str]:
    collapsed = page.chosen[page.chosen.collapse_step.notna()]
    told = []
    if not len(collapsed):
        told.append("The detector finds no collapse in any run.")
    elif len(collapsed) > NAMED:
        counts = collapsed.groupby("variant", sort=False).size()
        rows = ", ".join(f"{title} {count} of {len(page.rows(title))}" for title, count in counts.items())
        told.append(f"{len(collapsed)} of {len(page.chosen)} runs collapsed: {rows}.")
    for index, row in collapsed.iterrows() if 0 < len(collapsed) <= NAMED else ():
        told.append(f"{row.variant}, seed {row.seed}, collapsed: {detect(read_records(page.results[int(index)]))}.")
    recipe = page.results[0]["recipe"]
    count = recipe["metric_samples"]
    if recipe["metrics"] and recipe["extractor"] == "digits":
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


def _over_steps(page: Page, name: str, caption: str, series: Mapping[str, Callable[[Record], float]]) -> Drawing:
    lines = looks({title: page.variants[title] for title in shown(page)})
    runs = {t: [read_records(page.results[int(i)]) for i in page.rows(t).index] for t in lines}
    figure, grid = panels(len(series), size=(4.2, 3.2))
    drawing = Drawing(name, f"{caption}: mean of the seeds and their range.{only_largest(page)}", figure, wide=True)
    for axes, (title, value) in zip(grid, series.items(), strict=True):
        found: dict[str, Series] = {
            t: ([r["step"] for r in records[0]], [[value(r) for r in of] for of in records])
            for t, records in runs.items()
        }
        draw_series(drawing, axes, found, lines)
        axes.set(title=title, yscale="log" if "norm" in title else "linear")
        if "output" in title and max(map(abs, axes.get_ylim())) > FAR:
            # Those of an unconstrained discriminator may hide all others
            axes.set_yscale("symlog")
    legend(figure, lines, columns=4)
    return drawing


def _metrics(page: Page) -> Drawing:
    kept = [m for m in METRICS if m.column in page.table]
    series = {f"{m.name} ({'more' if m.more else 'less'} is better)": partial(_figure, m.column) for m in kept}
    return _over_steps(page, "metrics", "Metrics of samples over steps", series)


def _figure(column: str, record: Record) -> float:
    return next(m.scale for m in METRICS if m.column == column) * float(record["figures"][column])


def _stability(page: Page) -> Drawing:
    series: dict[str, Callable[[Record], float]] = {
        "largest spectral norm": lambda r: max(layer["spectral_norm"] for layer in r["layers"].values()),
        "mean relative stable rank": _relative_stable_rank,
        "gradient norm": lambda r: sum(layer["gradient_norm"] ** 2 for layer in r["layers"].values()) ** 0.5,
        "output on real images": lambda r: float(np.mean(r["outputs"]["real"])),
        "output on generated images": lambda r: float(np.mean(r["outputs"]["fake"])),
    }
    return _over_steps(page, "stability", "The discriminator over steps", series)


def _relative_stable_rank(record: Record) -> float:
    layers = [layer for layer in record["layers"].values() if len(layer["top"]) > 1]
    return float(np.mean([layer["stable_rank"] / len(layer["top"]) for layer in layers]))


def _spectra(page: Page) -> Drawing:
    def top(result: Result) -> dict[str, list[float]]:
        return {name: layer["top"] for name, layer in read_records(result)[-1]["layers"].items()}

    return draw_spectra(page, top, "discriminator's layers")


def _samples(page: Page) -> Drawing:
    steps = [row["step"] for row in page.results[0]["history"]]
    chosen = [steps[i] for i in sorted({round(x) for x in np.linspace(0, len(steps) - 1, SHEETS)})]
    return _gallery(page, "samples", "Samples of the same noise over training, first seed.", chosen)


def _interpolations(page: Page) -> Drawing:
    caption = "Spherical interpolation between six pairs of latent points after training, first seed."
    return _gallery(page, "interpolations", caption, [page.results[0]["history"][-1]["step"]])


def _gallery(page: Page, name: str, caption: str, steps: Sequence[int]) -> Drawing:
    titles = shown(page)
    columns = len(titles) if len(steps) > 1 else min(3, len(titles))
    figure, grid = panels(len(titles) * len(steps), columns, (2.3, 2.45) if len(steps) > 1 else (4.2, 3.0))
    for axes, (step, title) in zip(grid, [(step, title) for step in steps for title in titles], strict=True):
        _show(axes, Path(page.first(title)["folder"]) / name / f"{step:09d}.png")
        axes.set_title(f"{title}\nstep {step}", fontsize=9)
    return Drawing(name, f"{caption}{only_largest(page)}", figure, wide=True)


def _show(axes: Axes, path: Path) -> None:
    axes.set_axis_off()
    # A run that ended early has no samples of later steps
    if path.is_file():
        axes.imshow(matplotlib.image.imread(path), interpolation="nearest")


GAN = Kind(
    measures=(*METRICS, *COMMON, *BESIDE),
    columns=_columns,
    figures=(points, compression, _metrics, _stability, _spectra, _samples, _interpolations),
    facts=_facts,
    notes=(
        *NOTES[:2],
        "IS, FID, KID, precision and recall are torch-fidelity's, at the last evaluation. Diversity is the mean "
        "distance between samples relative to that between real images.",
        "A method names what holds the discriminator, dense that nothing does. C is the identity spectrum, L a "
        "learned one, R a learned one with the D-optimal penalty, as in the paper. Z is the discriminator's size, "
        "Z of G the generator's, relative to the dense ones.",
        "The largest spectral norm is that of any discriminator layer as a matrix, at the worst evaluation of any "
        f"seed. Runs have collapsed whose diversity is below {LEAST} at the last {LASTING} evaluations; the detector "
        "names the layer whose stable rank fell most while the norm of its trained weight grew.",
    ),
)
