"""The main job: one recipe, several methods, paths, seeds and values of any field; one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from sttp_riemann.errors import DivergedError
from sttp_riemann.files import Lock, refuse_links
from sttp_riemann.lab.progress import progress
from sttp_riemann.lab.studies.page import DEFAULT, check_shared
from sttp_riemann.lab.studies.plan import Sweep, plan
from sttp_riemann.lab.studies.probes import measure
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.report import check_report
from sttp_riemann.lab.studies.runs import Result, find, finish, recipe_of
from sttp_riemann.lab.studies.study import KINDS, Study, collect
from sttp_riemann.lab.studies.variant import Variant, bearing, folder_name, named
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
    recipe: Recipe,
    output: Path,
    workers: int = 1,
    sweep: Sweep | None = None,
    reading: Reading = DEFAULT,
    probes: Sequence[tuple[Recipe, int, Path]] = (),
) -> Study:
    """Do the missing runs of a study, and write the report of all runs in its folder.

    Parameters
    ----------
    recipe : Recipe
        What to compare.
    output : Path
        Folder of the study; runs that it already holds are reported, too.
    workers : int
        Number of runs at a time, each in a process of its own. Results do not depend on it; times of steps do where
        processes share cores.
    sweep : mapping, optional
        Values of further fields; see `plan`. Of several learning rates the best on held-out examples is chosen.
    reading : Reading
        How to report them.
    probes : sequence of tuple
        What is probed after all runs; see `sttp_riemann.lab.studies.probes.measure`.

    Returns
    -------
    Study
        With its report in `output`.

    Raises
    ------
    ReportedError
        The output cannot be written, another comparison is in its folder or runs there cannot share a page with these,
        or a run fails; what is finished stays, and the same command resumes from there.
    """
    check_workers(workers)
    runs = plan(recipe, sweep)
    check_report(output)
    _rehearse(runs)
    tasks = _missing(runs, output)
    for folder in (*(folder for _, folder in tasks), *(path.parent for _, _, path in probes)):
        refuse_links(folder, output)
    with Lock(output):
        with progress(len(runs), "compare", "run") as bar:
            bar.update(len(runs) - len(tasks))
            for index, result in spread(_outcome, tasks, workers):
                bar.update()
                tqdm.write(_line(tasks[index][0], [*(sweep or {})], result))
                if isinstance(result, DivergedError) and "lr" not in (sweep or {}):
                    raise result
        if probes:
            with progress(len(probes), "probes", "probe") as bar:
                for _ in spread(measure, probes, workers):
                    bar.update()
        study = replace(
            collect([output], recipe.name, reading), name=recipe.name, summary=recipe.summary, folder=output
        )
        study.write(output)
        return study


def _missing(runs: Sequence[Recipe], output: Path) -> list[tuple[Recipe, Path]]:
    """Give the runs that no archive holds, each with its folder: that of a run of its recipe, or else a new one."""
    there, _ = find([output]) if output.is_dir() else ([], [])
    # Runs that cannot share a page are refused before any of them starts
    check_shared([*there, *({"recipe": run.flat(), "folder": run_folder(run, output)} for run in runs)])
    known = {repr(bearing(recipe_of(result))): Path(result["folder"]) for result in there}
    folders = [known.get(repr(bearing(run)), run_folder(run, output)) for run in runs]
    archived = {folder for folder in known.values() if not folder.exists()}
    return [(run, folder) for run, folder in zip(runs, folders, strict=True) if folder not in archived]


def _outcome(recipe: Recipe, folder: Path) -> Result | DivergedError:
    """Get the result of a run, or the error if it diverged, as every method does at some rate."""
    try:
        return finish(recipe, folder)
    except DivergedError as error:
        return error


def _rehearse(runs: Sequence[Recipe]) -> None:
    """Build each variant once, so that one that cannot be built is refused before others run for hours."""
    for run in (run for run in runs if run.seed == runs[0].seed):
        TASKS[run.task](run, build_accelerator(run))


def _line(run: Recipe, swept: Sequence[str], result: Result | DivergedError) -> str:
    variant = Variant.of(run, [name for name in swept if name not in named(run) and name in bearing(run)])
    name = f"{variant.title(('spectrum', 'rank', 'rate', *(['start'] if 'init' in swept else [])))}, seed {run.seed}"
    if isinstance(result, DivergedError):
        return f"{name}: diverged"
    final, milliseconds = result["final"], result["median_step_ms"]
    score = KINDS[run.task].score.tested.column
    measured = (*run.evaluation.metrics, "diversity") if run.task == "gan" else (score,)
    names = [name for name in measured if name in final]
    figures = told_all({name: final[name] for name in names})
    return f"{name}: {figures}, {milliseconds:.1f} ms a step"
