"""Finished runs from anywhere, brought onto one page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab.studies.results import Result, read_result
from sttp_riemann.lab.studies.variant import Variant, title
from sttp_riemann.lab.training.checks import LOW_RANK
from sttp_riemann.lab.training.loop import RESULT
from sttp_riemann.lab.training.recipe import LETTERS, Method, Recipe
from sttp_riemann.lab.training.storage import checkpoints

# What a table has one of: Z is relative to one dense network, and metrics are compared only where they are the same
SHARED = (
    *("task", "data", "image_size", "channels", "network", "network_options", "conditional"),
    *("generator", "generator_options", "metrics", "extractor", "metric_samples"),
    *("is_splits", "kid_subsets", "kid_subset_size"),
)
# What changes nothing where weights are dense
OF_LOW_RANK = (
    *("frames", "rank", "budget", "spectrum", "init", "kernel_modes", "penalty", "penalty_weight", "gauge_fix_every"),
    *("generator_frames", "generator_rank", "generator_spectrum", "generator_penalty", "generator_penalty_weight"),
    "generator_exclude",
)
# What a label says
OF_VARIANT = ("method", "frames", "rank", "seed")


@dataclass(frozen=True)
class Collected:
    """Runs that share a page.

    Attributes
    ----------
    recipe : Recipe
        What they would be a comparison of.
    results : list of Result
        The finished ones, in the order of a comparison, with the labels that they have in it.
    remarks : list of str
        In what else the rows differ.
    skipped : list of str
        Folders that have no finished run, each with the reason.
    """

    recipe: Recipe
    results: list[Result]
    remarks: list[str]
    skipped: list[str]


def collect(paths: Sequence[Path], name: str) -> Collected:
    """Read the finished runs in folders.

    Parameters
    ----------
    paths : sequence of Path
        Folders of runs, or folders that hold such at any depth.
    name : str
        Of the page where the runs are of recipes of several names.

    Returns
    -------
    Collected
        The runs, and what is to be said of them.

    Raises
    ------
    RecipeError
        There is no finished run, or some cannot be compared; the message names two of them and the field.
    """
    results, skipped = _read(paths)
    if not results:
        raise RecipeError(f"there is no finished run to report: {'; '.join(skipped)}")
    _check_shared(results)
    ranks = _ranks(results)
    runs = [_with_ranks(result, ranks) for result in results]
    order = sorted(range(len(runs)), key=lambda i: _place(runs[i]))
    runs, results = [runs[i] for i in order], [{**results[i], "label": runs[i].label} for i in order]
    _check_rows(runs, results)
    return Collected(_merge(runs, name), results, _remarks(runs), skipped)


def _read(paths: Sequence[Path]) -> tuple[list[Result], list[str]]:
    found: dict[Path, Result] = {}
    skipped = []
    for path in paths:
        # A study's folder holds its runs' folders; a link to one is the same one
        # Unlike the method of a path, it takes a name that is too long for one that is not there
        if not os.path.isdir(path):
            skipped.append(f"{path} is no folder")
            continue
        inside = sorted({file.parent for pattern in (RESULT, "*.safetensors") for file in path.rglob(pattern)})
        if not inside:
            skipped.append(f"{path} holds no run")
        for folder in inside:
            try:
                found[folder.resolve()] = _finished(folder)
            except (CheckpointError, RecipeError) as error:
                skipped.append(str(error))
    return list(found.values()), list(dict.fromkeys(skipped))


def _finished(folder: Path) -> Result:
    """Read the result of a run; what is no such is refused with the reason."""
    result = read_result(folder)
    if result is None:
        kind = "is not finished" if checkpoints(folder) else "holds no run"
        raise CheckpointError(f"{folder} {kind}")
    try:
        # With the fields at their defaults that it does not have
        return {**result, "recipe": _recipe(result).to_dict()}
    except (RecipeError, TypeError) as error:
        raise CheckpointError(f"{folder} is of a recipe that is not valid here: {error}") from error


def _recipe(result: Result) -> Recipe:
    return Recipe.from_dict(result["recipe"])


def _check_shared(results: Sequence[Result]) -> None:
    first = results[0]
    for result in results[1:]:
        for name in SHARED:
            ours, theirs = getattr(_recipe(first), name), getattr(_recipe(result), name)
            if ours != theirs:
                raise RecipeError(
                    f"{first['folder']} and {result['folder']} cannot share a page: "
                    f"{name} is {ours!r} and {theirs!r}; report them apart"
                )


def _ranks(results: Sequence[Result]) -> dict[str, list[int | float]]:
    """Ranks of each method that has several here, or had when the runs were made."""
    found: dict[str, set[int | float]] = {}
    recipes = [_recipe(result) for result in results]
    for recipe in recipes:
        if recipe.low_rank and recipe.budget is None and not isinstance(recipe.rank, dict):
            found.setdefault(recipe.method, set()).add(recipe.rank)
    compared = {method for recipe in recipes for method in recipe.ranks}
    return {method: sorted(ranks) for method, ranks in found.items() if len(ranks) > 1 or method in compared}


def _with_ranks(result: Result, ranks: dict[str, list[int | float]]) -> Recipe:
    """Give the recipe of a run as that of one of a comparison of these ranks."""
    recipe = _recipe(result)
    if recipe.method in ranks and (recipe.budget is not None or isinstance(recipe.rank, dict)):
        raise RecipeError(
            f"{result['folder']} has a rank for each layer, and other runs of {recipe.method} are compared by their "
            "one rank: report them apart"
        )
    # Only one of both may be said
    return dataclasses.replace(recipe, ranks=ranks if recipe.budget is None else {})


def _place(recipe: Recipe) -> tuple[Any, ...]:
    """Where a run comes in a comparison."""
    letters = [*(LETTERS.values()), (recipe.spectrum, recipe.penalty)]
    rank = recipe.rank if recipe.low_rank and not isinstance(recipe.rank, dict) else 0
    method, path = get_args(Method).index(recipe.method), [*FRAMES].index(recipe.frames)
    return method, letters.index((recipe.spectrum, recipe.penalty)), path, rank, recipe.seed


def _check_rows(runs: Sequence[Recipe], results: Sequence[Result]) -> None:
    """Refuse runs that would stand in one row and are not of one recipe, or of the same seed."""
    rows: dict[str, tuple[Recipe, Path]] = {}
    seen: dict[tuple[str, int], Path] = {}
    for run, result in zip(runs, results, strict=True):
        folder, row = result["folder"], title(run.label)
        first, its_folder = rows.setdefault(run.label, (run, folder))
        ours, theirs = _bearing(first), _bearing(run)
        changed = [name for name in ours if name != "seed" and ours[name] != theirs[name]]
        if changed:
            name = changed[0]
            raise RecipeError(
                f"{its_folder} and {folder} would both be in the row {row!r}: {name} is {ours[name]!r} and "
                f"{theirs[name]!r}; report them apart"
            )
        twin = seen.setdefault((run.label, run.seed), folder)
        if twin != folder:
            raise RecipeError(f"{twin} and {folder} are the same run, {row} with seed {run.seed}: name one of them")


def _bearing(recipe: Recipe) -> Mapping[str, Any]:
    """Fields that make a run what it is."""
    fields = recipe.what_matters()
    if recipe.low_rank or (recipe.task == "gan" and recipe.generator_method in LOW_RANK):
        return fields
    # Nor does it make a difference which of a dense network's layers stay dense
    idle = (*OF_LOW_RANK, "exclude") if recipe.method == "dense" else OF_LOW_RANK
    return {name: value for name, value in fields.items() if name not in idle}


def _merge(runs: Sequence[Recipe], name: str) -> Recipe:
    """Give the comparison that the runs would be of."""
    base = next((run for run in runs if run.low_rank), runs[0])
    names = list(dict.fromkeys(run.name for run in runs))
    letters: set[Any] = {Variant.of(run.label).letter.upper() for run in runs} & set(LETTERS)
    return dataclasses.replace(
        base,
        name=name if len(names) > 1 else names[0],
        summary=base.summary if len(names) == 1 else f"runs of {', '.join(names)}",
        methods=_kinds(run.method for run in runs),
        paths=_kinds(run.frames for run in runs if run.low_rank) or base.paths,
        seeds=sorted({run.seed for run in runs}),
        spectra=sorted(letters) if len(letters) > 1 else [],
        paper={key: value for run in runs for key, value in _paper(run).items()},
    )


def _kinds(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))


def _paper(run: Recipe) -> dict[str, Any]:
    """Give the paper's figures of a run's variant, under the name that it has on the page."""
    variant = Variant.of(run.label)
    alone = dataclasses.replace(variant, rank="").paper_name
    figures = run.paper.get(variant.paper_name) or run.paper.get(alone)
    return {variant.paper_name: figures} if figures else {}


def _remarks(runs: Sequence[Recipe]) -> list[str]:
    """Tell of the fields in which rows differ and that no label tells of."""
    told = []
    for name in dataclasses.fields(Recipe):
        values: dict[str, list[str]] = {}
        for run in runs:
            fields = _bearing(run)
            spectrum = name.name in ("spectrum", "penalty") and bool(Variant.of(run.label).letter)
            if name.name in fields and name.name not in OF_VARIANT and not spectrum:
                values.setdefault(repr(fields[name.name]), []).append(title(run.label))
        if len(values) > 1:
            parts = [f"{value} in {', '.join(dict.fromkeys(rows))}" for value, rows in values.items()]
            told.append(f"The rows differ in {name.name}: {'; '.join(parts)}.")
    return told
