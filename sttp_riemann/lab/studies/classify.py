"""What studies of classifiers measure and report; see `Kind`."""

from __future__ import annotations

from typing import Any

from sttp_riemann.lab.studies.figures import compression, differentials, histories, points, rates, spectra
from sttp_riemann.lab.studies.measures import ACCURACY, COMMON, VALIDATION, Measure
from sttp_riemann.lab.studies.page import Kind, Page
from sttp_riemann.lab.studies.probes import PROBES
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.report import render
from sttp_riemann.lab.studies.runs import Result

# A layer whose largest singular value exceeds 1 by less is 1-Lipschitz up to rounding
ROUNDING = 1e-4
STEPS = Measure("steps_to_target", "steps to {target}", ",.0f", more=False, pool="median", log=True)
OVER_RATES = Measure("mean_over_rates", "mean over rates", unit=" %", more=True, scale=100)


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


def _columns(result: Result, reading: Reading) -> dict[str, Any]:
    final = result["final"]
    found = {name: final[name] for name in ("test_accuracy", "validation_accuracy") if name in final}
    accuracies = [row.get("validation_accuracy", row.get("test_accuracy", 0.0)) for row in result["history"]]
    reached = (row["step"] for row, value in zip(result["history"], accuracies, strict=True) if value >= reading.target)
    # Without those that never get there, a variant would be better for every run that fails
    steps = next(reached, result["recipe"]["steps"])
    probed = result.get("probe") or {"columns": {}}
    return {**found, **common_columns(result), "steps_to_target": steps, **probed["columns"]}


def _compared(page: Page) -> list[str]:
    # Where rates are not chosen, speed at the one rate says little, and each comparison costs the others power
    return [measure.column for measure in (*((STEPS, OVER_RATES) if page.tuned else ()), *PROBES)]


def _facts(page: Page) -> list[str]:
    return [*_late(page), *_singular(page)]


def _late(page: Page) -> list[str]:
    """Name the variants with runs that never reach the target."""
    rows = page.chosen
    accuracies = [
        max(row.get("validation_accuracy", row.get("test_accuracy", 0.0)) for row in page.results[int(i)]["history"])
        for i in rows.index
    ]
    never = rows[[value < page.reading.target for value in accuracies]].groupby("variant", sort=False).size()
    if not len(never):
        return []
    named = ", ".join(f"{count} of {title}" for title, count in never.items())
    return [f"Runs that never reach {100 * page.reading.target:g} % count with all their steps: {named}."]


def _singular(page: Page) -> list[str]:
    framed = [title for title, variant in page.variants.items() if variant.path]
    if not framed:
        return []
    largest = page.chosen.groupby("variant", sort=False).singular_value.max()
    beyond = [f"{title} ({value:.2f})" for title, value in largest.items() if value > 1 + ROUNDING]
    named = f"exceeds 1 in {', '.join(beyond)}" if beyond else "is at most 1 in every row"
    return [f"The largest singular value after training {named}."]


CLASSIFY = Kind(
    measures=(ACCURACY, VALIDATION, STEPS, OVER_RATES, *COMMON, *PROBES),
    columns=_columns,
    figures=(points, compression, rates, histories, differentials, spectra),
    facts=_facts,
    notes=render("studies/classify.md.j2"),
    compared=_compared,
)
