"""What studies of classifiers measure and report; see `Kind`."""

from __future__ import annotations

from typing import Any

from sttp_riemann.lab.studies.figures import compression, differentials, histories, points, rates, spectra
from sttp_riemann.lab.studies.measures import ACCURACY, COMMON, VALIDATION, Measure
from sttp_riemann.lab.studies.page import Kind, Page
from sttp_riemann.lab.studies.probes import PROBES
from sttp_riemann.lab.studies.report import render
from sttp_riemann.lab.studies.runs import Result

# A layer whose largest singular value exceeds 1 by less is 1-Lipschitz up to rounding
ROUNDING = 1e-4
TARGET = 0.95
STEPS = Measure("steps_to_target", f"steps to {100 * TARGET:g} %", ",.0f", more=False, pool="median", log=True)


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
    notes=render("studies/classify.md.j2"),
    compared=tuple(measure.column for measure in PROBES),
)
