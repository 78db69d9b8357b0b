"""The main job: one recipe, several methods, paths, seeds and values of any field; one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from sttp_riemann.errors import DivergedError
from sttp_riemann.files import Lock, refuse_links
from sttp_riemann.lab.progress import progress
from sttp_riemann.lab.studies.page import check_shared
from sttp_riemann.lab.studies.plan import Sweep, plan
from sttp_riemann.lab.studies.runs import Result, find, finish, recipe_of
from sttp_riemann.lab.studies.study import Study, check_margin, check_report, collect
from sttp_riemann.lab.studies.variant import Variant, bearing, fields_of, folder_name
from sttp_riemann.lab.studies.workers import check_workers, spread
from sttp_riemann.lab.training.machine import build_accelerator
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.snapshot import TASKS
from sttp_riemann.lab.units import told_all


def run_folder(recipe: Recipe, output: Path) -> Path:
    """Give the folder of a new run of a study.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    output : Path
        Folder of the study.

    Returns
    -------
    Path
        ``OUTPUT/VARIANT/seedSEED``.
    """
    return output / folder_name(recipe) / f"seed{recipe.seed}"


def compare(
    recipe: Recipe, output: Path, workers: int = 1, sweep: Sweep | None = None, margin: float | None = None
) -> Study:
    """Do all runs of a study that are not done yet, and write the report of all that are in its folder.

    Parameters
    ----------
    recipe : Recipe
        What to compare.
    output : Path
        Folder of the study; runs that it already holds are reported, too.
    workers : int
        How many runs are under way at a time, each in a process of its own. Results are the same for any number;
        times of steps are not where processes want the same cores.
    sweep : mapping, optional
        Values of further fields; see `plan`. Of several learning rates the best on held-out images is chosen.
    margin : float, optional
        Difference in the first measure that does not matter.

    Returns
    -------
    Study
        With its report in `output`.

    Raises
    ------
    ReportedError
        The output cannot be written, another comparison is in its folder or runs there cannot share a page with these,
        or a run cannot be had; what was finished stays, and the same command resumes from there.
    """
    check_workers(workers)
    check_margin(margin)
    runs = plan(recipe, sweep)
    check_report(output)
    _rehearse(runs)
    folders = _folders(runs, output)
    for folder in folders:
        refuse_links(folder, output)
    with Lock(output):
        several_rates = "lr" in (sweep or {})
        with progress(len(runs), "compare", "run") as bar:
            for index, result in spread(_outcome, list(zip(runs, folders, strict=True)), workers):
                bar.update()
                tqdm.write(_line(runs[index], result))
                if isinstance(result, DivergedError) and not several_rates:
                    raise result
        return report(recipe, output, margin)


def report(recipe: Recipe, output: Path, margin: float | None = None) -> Study:
    """Report all finished runs in the folder of a recipe's study.

    Returns
    -------
    Study
        With its report in `output`.
    """
    study = replace(collect([output], recipe.name, margin), name=recipe.name, summary=recipe.summary, folder=output)
    study.write(output)
    return study


def _folders(runs: Sequence[Recipe], output: Path) -> list[Path]:
    """Say where each run is: where a finished one of its recipe lies, or else where it belongs."""
    there, _ = find([output]) if output.is_dir() else ([], [])
    # What cannot share a page is told of before anything runs
    check_shared([*there, *({"recipe": fields_of(run), "folder": run_folder(run, output)} for run in runs)])
    known = {repr(bearing(recipe_of(result))): Path(result["folder"]) for result in there}
    return [known.get(repr(bearing(run)), run_folder(run, output)) for run in runs]


def _outcome(recipe: Recipe, folder: Path) -> Result | DivergedError:
    """Get the result of a run, or what made it diverge, which at some rate every method does."""
    try:
        return finish(recipe, folder)
    except DivergedError as error:
        return error


def _rehearse(runs: Sequence[Recipe]) -> None:
    """Build what each variant trains, so that one that cannot be built is told of before others have run for hours."""
    for run in (run for run in runs if run.seed == runs[0].seed):
        TASKS[run.task](run, build_accelerator(run))


def _line(run: Recipe, result: Result | DivergedError) -> str:
    name = f"{Variant.of(run).title(('spectrum', 'rank', 'rate'))}, seed {run.seed}"
    if isinstance(result, DivergedError):
        return f"{name}: diverged"
    final, milliseconds = result["final"], result["median_step_ms"]
    measured = (*run.evaluation.metrics, "diversity") if run.task == "gan" else ("test_accuracy",)
    names = [name for name in measured if name in final]
    figures = told_all({name: final[name] for name in names})
    return f"{name}: {figures}, {milliseconds:.1f} ms a step"
