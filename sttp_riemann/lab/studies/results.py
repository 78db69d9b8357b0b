"""Finished runs, and the table that they make."""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import parse_json
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.studies.variant import title
from sttp_riemann.lab.training.loop import RESULT

Result = dict[str, Any]
"""What a run's ``result.json`` holds, and under ``folder`` the path of the folder that it lies in."""
# What every run's result has, and beside it what those of a task have
_ANY = {
    "environment": dict,
    "label": str,
    "recipe": dict,
    "history": [{"step": int}],
    "singular_values": Each([float]),
    **dict.fromkeys(("median_step_ms", "ratio", "dof", "stored", "largest_singular_value"), float),
    "largest_orthogonality_error": float,
}
_OF_CLASSIFIER = {"final": {"step": int, "test_accuracy": float}}
_OF_GAN = {
    "final": {"step": int, "diversity": float},
    "history": [{"largest_spectral_norm": float}],
    "generator_ratio": float,
}


@dataclass(frozen=True)
class Row:
    """One variant over all its seeds; its fields are the columns of ``results.csv``.

    Attributes
    ----------
    rank : float or None
        The one rank of all layers; None for a dense network, and where each layer has its own.
    accuracy, accuracy_two_sd : float
        Test accuracy in percent: mean over seeds, and two standard deviations (NaN for one seed).
    ratio : float
        Compression Z in percent.
    dof, stored : int
        Degrees of freedom of the weights, and the numbers that are kept for them.
    step_ms : float
        Median time of a training step, in milliseconds.
    orthogonality_error : float or None
        Largest seen at any evaluation of any seed; None for a dense network.
    singular_value : float
        Largest singular value of any layer at the end of any seed.
    """

    label: str
    method: str
    frames: str
    rank: float | None
    seeds: int
    accuracy: float
    accuracy_two_sd: float
    accuracy_lowest: float
    ratio: float
    dof: int
    stored: int
    step_ms: float
    orthogonality_error: float | None
    singular_value: float

    @property
    def title(self) -> str:
        """Name for a reader."""
        return title(self.label)


def read_result(folder: Path) -> Result | None:
    """Read the result in a run's folder; None where the run has not ended.

    Raises
    ------
    CheckpointError
        The file is there and cannot be read, or is not of a run.
    """
    path = folder / RESULT
    # Unlike the method of a path, it takes a name that is too long for one that is not there
    if not os.path.exists(path):
        return None
    try:
        result = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: delete it to have it written again ({error})") from error
    try:
        check_form(result, _ANY)
        check_form(result, _OF_GAN if result["recipe"].get("task") == "gan" else _OF_CLASSIFIER)
        check_form(result["history"], [Each(float)], "history")
        if not result["history"]:
            raise ValueError("it has an empty history")
    except ValueError as error:
        raise CheckpointError(f"{path} is not of a run: {error}") from error
    return {**result, "folder": folder}


def by_label(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of each variant, in the order of their first."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["label"], []).append(result)
    return groups


def tabulate(results: Sequence[Result]) -> list[Row]:
    """Table of finished runs, one row a variant."""
    return [_row(label, group) for label, group in by_label(results).items()]


def only_rank(recipe: Mapping[str, Any]) -> float | None:
    """Give the one rank of all layers; None where each has its own."""
    network = recipe["network"]
    rank: float | None = None if isinstance(network["rank"], dict) else network["rank"]
    return rank if network.get("budget") is None else None


def _row(label: str, group: Sequence[Result]) -> Row:
    first, recipe = group[0], group[0]["recipe"]
    network = recipe["network"]
    dense = network["method"] == "dense"
    accuracies = [100 * r["final"]["test_accuracy"] for r in group]
    errors = [r["largest_orthogonality_error"] for r in group]
    return Row(
        label=label,
        method=network["method"],
        frames="" if dense else network["frames"],
        rank=None if dense else only_rank(recipe),
        seeds=len(group),
        accuracy=statistics.fmean(accuracies),
        accuracy_two_sd=two_deviations(accuracies),
        accuracy_lowest=min(accuracies),
        ratio=first["ratio"],
        dof=first["dof"],
        stored=first["stored"],
        step_ms=statistics.median(r["median_step_ms"] for r in group),
        orthogonality_error=None if dense else max(errors),
        singular_value=max(r["largest_singular_value"] for r in group),
    )


def to_csv(rows: Sequence[Row]) -> str:
    """Text of ``results.csv``; empty where there is nothing to tell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {k: v for k, v in asdict(row).items() if not (isinstance(v, float) and math.isnan(v))}
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
    return text.getvalue()


COLUMNS = (
    "method",
    "test accuracy (%)",
    "Z (%)",
    "degrees of freedom",
    "stored numbers",
    "step (ms)",
    "orthogonality error",
    "largest singular value",
)


def with_spread(mean: float, two_sd: float) -> str:
    """Write a mean and, where there is more than one seed, two standard deviations."""
    return f"{mean:.2f}" if math.isnan(two_sd) else f"{mean:.2f} ± {two_sd:.2f}"


def two_deviations(values: Sequence[float]) -> float:
    """Two standard deviations of a sample; NaN for a single value."""
    return 2 * statistics.stdev(values) if len(values) > 1 else math.nan


def cells(row: Row) -> list[str]:
    """Write a row as a reader sees it, one text for each of `COLUMNS`."""
    return [
        row.title,
        with_spread(row.accuracy, row.accuracy_two_sd),
        f"{row.ratio:.2f}",
        f"{row.dof:,}",
        f"{row.stored:,}",
        f"{row.step_ms:.1f}",
        "–" if row.orthogonality_error is None else f"{row.orthogonality_error:.1e}",
        f"{row.singular_value:.4f}",
    ]


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Write a table as a reader sees it, the names of its columns first."""
    return [list(COLUMNS), *(cells(row) for row in rows)]
