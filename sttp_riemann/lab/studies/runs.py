"""Finished runs: how to get, read and find them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.files import parse_json
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.studies.archive import ARCHIVE, unpack
from sttp_riemann.lab.training.loop import RESULT, Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.snapshot import check_origin
from sttp_riemann.lab.training.storage import checkpoints

Result = dict[str, Any]
"""What a run's ``result.json`` holds, and under ``folder`` the path of the folder that it lies in."""
# What every run's result has, and beside it what those of a task have
_ANY = {
    "environment": dict,
    "recipe": dict,
    "history": [{"step": int}],
    "singular_values": Each([float]),
    **dict.fromkeys(("median_step_ms", "ratio", "dof", "stored", "largest_singular_value"), float),
    "largest_orthogonality_error": float,
}
_OF_TASK: dict[str, Any] = {
    "classify": {"final": {"step": int, "test_accuracy": float}},
    "regress": {"final": {"step": int, "test_r2": float, "test_rmse": float}},
    "gan": {
        "final": {"step": int, "diversity": float},
        "history": [{"largest_spectral_norm": float}],
        "generator_ratio": float,
    },
}


def read_result(folder: Path) -> Result | None:
    """Read the result in a run's folder; None while the run has not ended.

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
    _check(result, path)
    return {**result, "folder": folder}


def _check(result: Any, path: Path) -> None:
    try:
        check_form(result, _ANY)
        check_form(result, _OF_TASK.get(str(result["recipe"].get("task")), _OF_TASK["classify"]))
        check_form(result["history"], [Each(float)], "history")
        check_form(result["final"], Each(float), "final")
        if not result["history"]:
            raise ValueError("it has an empty history")
        if not all(result["singular_values"].values()):
            raise ValueError("it has a layer without singular values")
        # Figures draw what the first record has of all of them
        check_form(result["history"], [dict.fromkeys(result["history"][0], float)], "history")
    except ValueError as error:
        raise CheckpointError(f"{path} is not of a run: {error}") from error


def recipe_of(result: Mapping[str, Any]) -> Recipe:
    """Give the recipe of a run that was found."""
    return _recipe(json.dumps(result["recipe"]))


@lru_cache(maxsize=10_000)
def _recipe(fields: str) -> Recipe:
    # Checking all fields takes a twentieth of a second, and a report asks several times for each of its runs
    return Recipe().changed(**json.loads(fields))


def finish(recipe: Recipe, folder: Path) -> Result:
    """Get the result of a run: read it, or resume where it was cut off, or begin.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    folder : Path
        The run's own.

    Returns
    -------
    Result
        What ``result.json`` holds, and the folder.

    Raises
    ------
    ReportedError
        The run fails, or the folder holds another; see `Trainer`.
    """
    result = read_result(folder)
    if result is None:
        return {**Trainer(recipe, folder).run(), "folder": folder}
    check_origin(recipe, folder, result["recipe"], result["environment"].get("sttp_riemann"))
    return result


def find(paths: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Read the finished runs in folders, and in archives there.

    Parameters
    ----------
    paths : sequence of Path
        Folders of runs, or folders that hold such or archives at any depth. A run's own folder comes before an archive.

    Returns
    -------
    results : list of Result
        The finished ones, each once, with the fields of their recipes by their short names.
    skipped : list of str
        Folders that have no finished run, each with the reason.
    """
    found: dict[Path, Result] = {}
    skipped = []
    for path in paths:
        # A study's folder holds its runs' folders; a link to one is the same one
        if not os.path.isdir(path):
            skipped.append(f"{path} is no folder")
            continue
        inside = sorted({file.parent for pattern in (RESULT, "*.safetensors") for file in path.rglob(pattern)})
        archives = sorted(path.rglob(ARCHIVE))
        if not inside and not archives:
            skipped.append(f"{path} holds no run")
        for folder in inside:
            try:
                found[folder.resolve()] = _finished(folder)
            except (CheckpointError, RecipeError) as error:
                skipped.append(str(error))
        for archive in archives:
            try:
                for result in unpack(archive):
                    _check(result, archive)
                    found.setdefault(result["folder"].resolve(), _of_whole_recipe(result))
            except (CheckpointError, RecipeError) as error:
                skipped.append(str(error))
    return list(found.values()), list(dict.fromkeys(skipped))


def _finished(folder: Path) -> Result:
    """Read the result of a run; anything else is refused with the reason."""
    result = read_result(folder)
    if result is None:
        kind = "is not finished" if checkpoints(folder) else "holds no run"
        raise CheckpointError(f"{folder} {kind}")
    return _of_whole_recipe(result)


def _of_whole_recipe(result: Result) -> Result:
    """Give a result with the fields at their defaults that its recipe does not have."""
    try:
        fields = Recipe.recorded(result["recipe"]).flat()
        check_form(fields["paper"], Each(Each(float)), "paper")
        return {**result, "recipe": fields}
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{result['folder']} is of a recipe that is not valid here: {error}") from error
