"""What studies of one network with labels measure and report; see `Kind`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sttp_riemann.lab.studies.figures import compression, differentials, histories, points, rates, spectra
from sttp_riemann.lab.studies.measures import COMMON, Measure, Score
from sttp_riemann.lab.studies.page import Kind, Page
from sttp_riemann.lab.studies.probes import PROBES
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.runs import Result

# A layer whose largest singular value exceeds 1 by less is 1-Lipschitz up to rounding
ROUNDING = 1e-4
STEPS = Measure("steps_to_target", "steps to {target}", ",.0f", more=False, pool="median", log=True)


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


def supervised(score: Score, further: Sequence[Measure], notes: str) -> Kind:
    """Make the kind of studies that are judged by a score.

    Parameters
    ----------
    score : Score
        Compared first.
    further : sequence of Measure
        On the test examples, described beside it.
    notes : str
        How to read the table.
    """
    over_rates = replace(score.tested, column="mean_over_rates", name="mean over rates", margin=None)
    return Kind(
        measures=(score.tested, score.held, *further, STEPS, over_rates, *COMMON, *PROBES),
        columns=partial(_columns, score, [m.column for m in further]),
        figures=(points, compression, rates, histories, differentials, spectra),
        facts=_facts,
        notes=notes,
        compared=_compared,
        score=score,
    )


def scores(result: Result, score: Score) -> list[float]:
    """Scores of a run's evaluations: on held-out examples, or on the test examples where none are."""
    rows = result["history"]
    return [row.get(score.held.column, row.get(score.tested.column, -math.inf)) for row in rows]


def _columns(score: Score, further: Sequence[str], result: Result, reading: Reading) -> Mapping[str, Any]:
    final, history = result["final"], result["history"]
    found = {name: final[name] for name in (score.tested.column, score.held.column, *further) if name in final}
    pairs = zip(history, scores(result, score), strict=True)
    # Without those that never get there, a variant would be better for every run that fails
    steps = next((row["step"] for row, value in pairs if value >= reading.target), result["recipe"]["steps"])
    probed = result.get("probe") or {"columns": {}}
    return {**found, **common_columns(result), "steps_to_target": steps, **probed["columns"]}


def _compared(page: Page) -> list[str]:
    # Where rates are not chosen, speed at the one rate says little, and each comparison costs the others power
    speed = [STEPS.column] if page.tuned and any(map(len, _reached(page).values())) else []
    return [*speed, *(["mean_over_rates"] if page.tuned else []), *(measure.column for measure in PROBES)]


def _reached(page: Page) -> dict[str, list[int]]:
    """By variant, the chosen runs that reach the target."""
    found: dict[str, list[int]] = {title: [] for title in page.variants}
    for index, row in page.chosen.iterrows():
        if max(scores(page.results[int(index)], page.kind.score)) >= page.reading.target:
            found[row.variant].append(int(index))
    return found


def _facts(page: Page) -> list[str]:
    return [*_late(page), *_singular(page)]


def _late(page: Page) -> list[str]:
    """Name the variants with runs that never reach the target."""
    counts = page.chosen.groupby("variant", sort=False).size()
    reached = _reached(page)
    if not any(map(len, reached.values())):
        return [f"No run reaches {page.target}."]
    never = {title: count - len(reached[title]) for title, count in counts.items()}
    named = ", ".join(f"{count} of {title}" for title, count in never.items() if count)
    return [f"Runs that never reach {page.target} count with all their steps: {named}."] if named else []


def _singular(page: Page) -> list[str]:
    framed = [title for title, variant in page.variants.items() if variant.path]
    if not framed:
        return []
    largest = page.chosen.groupby("variant", sort=False).singular_value.max()
    beyond = [f"{title} ({value:.2f})" for title, value in largest.items() if value > 1 + ROUNDING]
    named = f"exceeds 1 in {', '.join(beyond)}" if beyond else "is at most 1 in every row"
    return [f"The largest singular value after training {named}."]
