"""What studies of classifiers measure and tell; see `Kind`."""

from __future__ import annotations

from typing import Any

from sttp_riemann.lab.studies.ablation.figures import differentials, rates
from sttp_riemann.lab.studies.ablation.probes import NOTE, PROBES
from sttp_riemann.lab.studies.figures import compression, histories, points, spectra
from sttp_riemann.lab.studies.measures import ACCURACY, COMMON, VALIDATION, Measure
from sttp_riemann.lab.studies.page import Kind, Page
from sttp_riemann.lab.studies.runs import Result

# A layer whose largest singular value exceeds 1 by less is 1-Lipschitz up to rounding
ROUNDING = 1e-4
TARGET = 0.95
STEPS = Measure("steps_to_target", f"steps to {100 * TARGET:g} %", ",.0f", more=False, pool="median", log=True)
NOTES = (
    "A cell with ± is the mean over seeds and half the width of its 95 % interval (Student's t).",
    "Comparisons pair runs by seed, which decides the start and the order of the data. p is of an exact sign-flip test "
    "up to 12 pairs and of a t test beyond, corrected by Holm's method for all comparisons of the report, where an "
    "interval is of one comparison alone: it may leave 0 out and the report yet claim no difference. Equivalence "
    "is claimed only where two one-sided tests place the difference within the margin named.",
    "Z is the size of the whole network relative to the dense one: degrees of freedom of the reparameterized weights "
    "and all other numbers, batch-norm statistics included. Degrees of freedom and stored numbers are those of the "
    "weight matrices alone.",
    "A step is the median of forward, backward and optimizer, without evaluation; its row has the median of the seeds.",
    "The orthogonality error is the largest entry of |XᵀX − I| over all frames, at the worst evaluation of any seed; "
    "the largest singular value that of any layer as a matrix, after training.",
)


def common_columns(result: Result) -> dict[str, Any]:
    """Give the columns that runs of every task have."""
    recipe = result["recipe"]
    framed = recipe["method"] in ("svdp", "sttp")
    return {
        "ratio": result["ratio"],
        "dof": result["dof"],
        "stored": result["stored"],
        "step_ms": result["median_step_ms"],
        "orthogonality_error": result["largest_orthogonality_error"] if framed else None,
        "singular_value": result["largest_singular_value"],
        "skipped_steps": result.get("skipped_steps", 0),
    }


def _columns(result: Result) -> dict[str, Any]:
    final = result["final"]
    found = {name: final[name] for name in ("test_accuracy", "validation_accuracy") if name in final}
    accuracies = [row.get("validation_accuracy", row.get("test_accuracy", 0.0)) for row in result["history"]]
    reached = (row["step"] for row, value in zip(result["history"], accuracies, strict=True) if value >= TARGET)
    probed = result.get("probe") or {"columns": {}}
    return {**found, **common_columns(result), "steps_to_target": next(reached, None), **probed["columns"]}


def _facts(page: Page) -> list[str]:
    framed = [title for title, variant in page.variants.items() if variant.path]
    if not framed:
        return []
    largest = page.chosen.groupby("variant", sort=False).singular_value.max()
    beyond = [f"{title} ({value:.2f})" for title, value in largest.items() if value > 1 + ROUNDING]
    named = f"exceeds 1 in {', '.join(beyond)}" if beyond else "is at most 1 in every row"
    return [f"The largest singular value after training {named}."]


CLASSIFY = Kind(
    measures=(ACCURACY, VALIDATION, STEPS, *COMMON, *PROBES),
    columns=_columns,
    figures=(points, compression, rates, histories, differentials, spectra),
    facts=_facts,
    notes=(*NOTES, NOTE),
    compared=tuple(measure.column for measure in PROBES),
)
