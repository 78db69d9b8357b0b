"""Finished runs of a GAN study, and the table that they make."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import parse_json
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.studies.collapse import Collapse, detect
from sttp_riemann.lab.studies.results import Result, by_label, only_rank
from sttp_riemann.lab.studies.variant import Variant, title
from sttp_riemann.lab.training.recipe import Recipe

# Figure in the history: name for a reader, its scale, digits, and whether more is better
MEASURES: dict[str, tuple[str, float, int, bool]] = {
    "fid": ("FID", 1, 2, False),
    "kid": ("KID x100", 100, 2, False),
    "is": ("IS", 1, 2, True),
    "precision": ("precision", 1, 3, True),
    "recall": ("recall", 1, 3, True),
    "ppl": ("PPL", 1, 1, False),
    "diversity": ("diversity", 1, 3, True),
}

Record = dict[str, Any]
_RECORD = {
    "step": int,
    "figures": {"diversity": float},
    "layers": Each(
        {**dict.fromkeys(("spectral_norm", "trained_norm", "stable_rank", "gradient_norm"), float), "top": [float]}
    ),
    "outputs": Each([float]),
}


@dataclass(frozen=True)
class Run:
    """One finished run and what it recorded on the way.

    Attributes
    ----------
    result : Result
        From ``result.json``.
    records : list of dict
        One an evaluation: ``step``, ``figures``, ``layers``, ``outputs``.
    collapse : Collapse or None
        What the detector found.
    folder : Path
        The run's own.
    """

    result: Result
    records: list[Record]
    collapse: Collapse | None
    folder: Path

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.result["recipe"]["seed"])


@dataclass(frozen=True)
class GanRow:
    """One variant over all its seeds.

    Attributes
    ----------
    figures : dict[str, tuple[float, float]]
        Mean over seeds and two standard deviations (NaN for one seed), by name in `MEASURES`.
    ratio, generator_ratio : float
        Compression Z of both networks in percent.
    spectral_norm : float
        Largest of any layer at any evaluation of any seed.
    orthogonality_error : float or None
        Likewise; None where there are no frames.
    """

    label: str
    runs: list[Run]
    figures: dict[str, tuple[float, float]]
    ratio: float
    generator_ratio: float
    step_ms: float
    spectral_norm: float
    orthogonality_error: float | None

    @property
    def title(self) -> str:
        """Name for a reader."""
        return title(self.label)

    @property
    def rank(self) -> float | None:
        """The one rank of all layers of the discriminator; None where each has its own."""
        return only_rank(self.runs[0].result["recipe"])

    @property
    def collapsed(self) -> list[Run]:
        """Runs in which the detector found a collapse."""
        return [run for run in self.runs if run.collapse is not None]


def read_records(folder: Path) -> list[Record]:
    """Read what a run recorded at its evaluations, in order.

    Raises
    ------
    CheckpointError
        A record cannot be read.
    """
    records: list[Record] = []
    for path in sorted((folder / "stability").glob("*.json")):
        try:
            record = parse_json(path.read_text(encoding="utf-8"))
            check_form(record, _RECORD)
            if record["layers"].keys() != (records or [record])[0]["layers"].keys():
                raise ValueError("its layers are not those of the first")
            records.append(record)
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read: delete the run's folder to have it anew ({error})"
            ) from error
    return records


def tabulate_gan(results: Sequence[Result]) -> list[GanRow]:
    """Table of finished runs, one row a variant."""
    return [_row(label, [_run(result) for result in group]) for label, group in by_label(results).items()]


def _run(result: Result) -> Run:
    folder = result["folder"]
    # A folder may hold records of a longer run that was there before
    records = [r for r in read_records(folder) if r["step"] <= result["final"]["step"]]
    return Run(result, records, detect(records), folder)


def _row(label: str, runs: list[Run]) -> GanRow:
    first = runs[0].result
    finals = [run.result["final"] for run in runs]
    figures = {name: _mean([final[name] for final in finals]) for name in MEASURES if name in finals[0]}
    history = [row for run in runs for row in run.result["history"]]
    errors = [row["orthogonality_error"] for row in history if "orthogonality_error" in row]
    return GanRow(
        label=label,
        runs=runs,
        figures=figures,
        ratio=first["ratio"],
        generator_ratio=first["generator_ratio"],
        step_ms=statistics.median(run.result["median_step_ms"] for run in runs),
        spectral_norm=max(row["largest_spectral_norm"] for row in history),
        orthogonality_error=max(errors) if errors else None,
    )


def _mean(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), 2 * statistics.stdev(values) if len(values) > 1 else math.nan


def scaled(name: str) -> Callable[[GanRow], tuple[float, float]]:
    """Give what reads a figure off a row as a reader sees it: mean and two standard deviations."""

    def read(row: GanRow) -> tuple[float, float]:
        (mean, two_sd), scale = row.figures[name], MEASURES[name][1]
        return scale * mean, scale * two_sd

    return read


def gan_table(recipe: Recipe, rows: Sequence[GanRow]) -> list[list[str]]:
    """Write the table as a reader sees it, the names of its columns first; the paper's figures beside ours."""
    names = [name for name in MEASURES if name in rows[0].figures]
    printed = [name for name in names if any(name in of for of in recipe.study.paper.values())]
    compressed = any(row.generator_ratio != 100 for row in rows)
    head = ["method", *(MEASURES[name][0] for name in names), *(f"paper's {MEASURES[name][0]}" for name in printed)]
    head += ["Z of D (%)", *(["Z of G (%)"] if compressed else []), "step (ms)"]
    lines = [[*head, "largest spectral norm", "orthogonality error", "collapsed"]]
    for row in rows:
        paper = recipe.study.paper.get(Variant.of(row.label).paper_name, {})
        line = [row.title, *(_spread(name, *row.figures[name]) for name in names)]
        line += [_scaled(name, paper[name]) if name in paper else "–" for name in printed]
        line += [f"{row.ratio:.2f}", *([f"{row.generator_ratio:.2f}"] if compressed else []), f"{row.step_ms:.1f}"]
        error = "–" if row.orthogonality_error is None else f"{row.orthogonality_error:.1e}"
        lines.append([*line, f"{row.spectral_norm:.2f}", error, f"{len(row.collapsed)} of {len(row.runs)}"])
    return lines


def _scaled(name: str, value: float) -> str:
    _, scale, digits, _ = MEASURES[name]
    return f"{scale * value:.{digits}f}"


def _spread(name: str, mean: float, two_sd: float) -> str:
    return _scaled(name, mean) + ("" if math.isnan(two_sd) else f" ± {_scaled(name, two_sd)}")


def gan_csv(rows: Sequence[GanRow]) -> str:
    """Text of ``results.csv``: one line a run."""
    text = io.StringIO()
    names = [name for name in MEASURES if name in rows[0].figures]
    head = ["label", "method", "frames", "seed", *names, "ratio", "generator_ratio", "step_ms", "largest_spectral_norm"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, "collapse_step", "collapse_layer"])
    for run in (run for row in rows for run in row.runs):
        result, network = run.result, run.result["recipe"]["network"]
        final, found = result["final"], run.collapse
        frames = network["frames"] if network["method"] in ("svdp", "sttp") else ""
        values = [
            *(final[name] for name in names),
            result["ratio"],
            result["generator_ratio"],
            result["median_step_ms"],
        ]
        values.append(max(row["largest_spectral_norm"] for row in result["history"]))
        end = ["", ""] if found is None else [found.step, found.layer or ""]
        writer.writerow([result["label"], network["method"], frames, run.seed, *(f"{v:.6g}" for v in values), *end])
    return text.getvalue()
