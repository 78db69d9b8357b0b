"""Probes of a variant: conditioning, gradients, drift; kept in files beside the runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import parse_json, write_atomically
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.studies.measures import Measure
from sttp_riemann.lab.studies.probing import condition, drift, independent, probe
from sttp_riemann.lab.studies.variant import folder_name
from sttp_riemann.lab.training.recipe import FIELDS, Recipe

PROBES = (
    Measure("condition_before", "condition before", ".3g", more=False, pool="median", log=True),
    Measure("condition_after", "condition after", ".3g", more=False, pool="median", log=True),
    Measure("gradient_spread", "gradient spread", ".2f", more=False, pool="median", log=True),
    Measure("drift", "float32 from float64", ".1e", more=False, pool="median", log=True),
)
FOLDER = "probes"
# In what else a probe differs from the runs that it is of
OWN = ("lr", "network_options")
_FORM = {"recipe": dict, "drift_steps": int, "columns": Each(float), "before": [float], "after": [float]}

Probed = dict[str, Any]


def probe_path(recipe: Recipe, output: Path) -> Path:
    """Give the file of a recipe's probe."""
    return output / FOLDER / f"{folder_name(recipe)}-seed{recipe.seed}.json"


def measure(recipe: Recipe, drift_steps: int, path: Path) -> None:
    """Probe a recipe and write what was found, unless the file exists.

    Parameters
    ----------
    recipe : Recipe
        Of a low-rank classifier that is small.
    drift_steps : int
        Steps of the descent in both precisions.
    path : Path
        Where to.
    """
    if path.is_file() and _read(path)["drift_steps"] == drift_steps:
        return
    seen = probe(recipe)
    rank = recipe.network.rank if isinstance(recipe.network.rank, int) else 16
    found = {
        "condition_before": condition(seen.start),
        "condition_after": condition(seen.end),
        "directions_before": independent(seen.start),
        "directions_after": independent(seen.end),
        "gradient_spread": seen.spread,
        "drift": drift(recipe.network.method, recipe.network.frames, rank, drift_steps, recipe.seed),
    }
    lists = {"before": seen.start.tolist(), "after": seen.end.tolist()}
    content = {"recipe": recipe.flat(), "drift_steps": drift_steps, "columns": found, **lists}
    write_atomically(path, json.dumps(content).encode(), inside=path.parent.parent)


def attach(results: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Give results with the probe of their variant and seed under ``probe``, where folders hold one.

    Raises
    ------
    CheckpointError
        A probe cannot be read, or an archived one is not of a probe.
    """
    for result in results:
        if result.get("probe") is not None:
            try:
                check_form(result["probe"], _FORM)
            except ValueError as error:
                raise CheckpointError(f"the probe of {result['folder']} is not of a probe: {error}") from error
    probes = [_read(file) for path in paths for file in sorted(path.rglob(f"{FOLDER}/*.json"))]
    known = {_key(found["recipe"]): found for found in probes}
    return [{**result, "probe": known.get(_key(result["recipe"]), result.get("probe"))} for result in results]


def _key(fields: Mapping[str, Any]) -> str:
    return repr([fields.get(name) for name, field in FIELDS.items() if field.metadata["matters"] and name not in OWN])


def _read(path: Path) -> Probed:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        check_form(found, _FORM)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: delete it to have it probed again ({error})") from error
    return dict(found)
