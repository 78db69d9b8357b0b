"""The main job: one recipe, several methods and frames, several seeds, one report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tqdm import tqdm

from sttp_riemann.files import Lock, refuse_links
from sttp_riemann.lab.studies.report import check_report, write_report
from sttp_riemann.lab.studies.results import Result, read_result
from sttp_riemann.lab.studies.variant import title
from sttp_riemann.lab.studies.workers import check_workers, spread
from sttp_riemann.lab.training.checks import LOW_RANK
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.machine import build_accelerator
from sttp_riemann.lab.training.recipe import Frames, Method, Recipe
from sttp_riemann.lab.training.snapshot import check_origin
from sttp_riemann.lab.training.task import build_task
from sttp_riemann.lab.units import told_all


def plan(recipe: Recipe) -> list[Recipe]:
    """List the runs of a comparison: in each seed every low-rank method on every path at every rank, the others once.

    Variants take turns, so that a machine that is slower for a while slows all of them.

    Parameters
    ----------
    recipe : Recipe
        What to compare.

    Returns
    -------
    list of Recipe
        One a run, seed after seed.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.compare import plan
    >>> from sttp_riemann.lab.training.recipe import Recipe
    >>> [run.label for run in plan(Recipe(methods=["dense", "sttp"], seeds=[0]))]
    ['dense', 'sttp-riemannian', 'sttp-householder']
    """
    variants: list[tuple[Method, Frames, str | None, int | float | None]] = []
    letters: list[str | None] = [*recipe.spectra] or [None]
    for method in recipe.methods:
        if method in LOW_RANK:
            ranks = recipe.ranks.get(method, [None])
            for letter, path, rank in product(letters, recipe.paths, ranks):
                variants.append((method, path, letter, rank))
        else:
            # It has no frames, spectrum or rank, so one path stands for all
            variants.append((method, recipe.paths[0], None, None))
    return [
        recipe.for_run(method, path, seed, letter, rank)
        for seed in recipe.seeds
        for method, path, letter, rank in variants
    ]


def run_folder(recipe: Recipe, output: Path) -> Path:
    """Folder of one run of a comparison.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    output : Path
        Folder of the study.

    Returns
    -------
    Path
        ``OUTPUT/LABEL/seedSEED``.
    """
    return output / recipe.label / f"seed{recipe.seed}"


def finish(recipe: Recipe, folder: Path) -> Result:
    """Get the result of a run: read it, or go on where it was cut off, or begin.

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
        The run cannot be had, or the folder holds another; see `Trainer`.
    """
    result = read_result(folder)
    if result is None:
        return {**Trainer(recipe, folder).run(), "folder": folder}
    check_origin(recipe, folder, result["recipe"], result["environment"].get("sttp_riemann"))
    # What else is compared decides whether a label tells the rank
    return {**result, "label": recipe.label}


def compare(recipe: Recipe, output: Path, workers: int = 1) -> tuple[list[Result], Path]:
    """Do all runs of a comparison that are not done yet, and write the report.

    Parameters
    ----------
    recipe : Recipe
        What to compare.
    output : Path
        Folder of the study.
    workers : int
        How many runs are under way at a time, each in a process of its own. Results are the same for any number;
        times of steps are not where processes want the same cores.

    Returns
    -------
    results : list of Result
        Every run's, in the order of `plan`.
    report : Path
        ``report.html``.

    Raises
    ------
    ReportedError
        The output cannot be written, another comparison is in its folder, or a run cannot be had; what was finished
        stays, and the same command goes on from there.
    """
    check_workers(workers)
    runs = plan(recipe)
    check_report(output)
    _rehearse(runs)
    folders = [run_folder(run, output) for run in runs]
    for folder in folders:
        refuse_links(folder, output)
    with Lock(output):
        done: dict[int, Result] = {}
        with tqdm(total=len(runs), desc="compare", unit="run", disable=None) as bar:
            for index, result in spread(finish, list(zip(runs, folders, strict=True)), workers):
                done[index] = result
                bar.update()
                tqdm.write(_line(runs[index], result))
        results = [done[index] for index in range(len(runs))]
        return results, write_report(recipe, results, output)


def _rehearse(runs: Sequence[Recipe]) -> None:
    """Build what each variant trains, so that one that cannot be built is told of before others have run for hours."""
    for run in (run for run in runs if run.seed == runs[0].seed):
        build_task(run, build_accelerator(run))


def _line(run: Recipe, result: Result) -> str:
    final, milliseconds = result["final"], result["median_step_ms"]
    names = [name for name in (*run.metrics, "diversity") if name in final] if run.task == "gan" else ["test_accuracy"]
    figures = told_all({name: final[name] for name in names})
    return f"{title(run.label)}, seed {run.seed}: {figures}, {milliseconds:.1f} ms a step"
