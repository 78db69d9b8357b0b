"""The main job: one recipe, several methods and frames, several seeds, one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sttp_riemann.study.report import write_report
from sttp_riemann.study.results import Result, read_result, title
from sttp_riemann.training.loop import Trainer
from sttp_riemann.training.machine import build_accelerator
from sttp_riemann.training.recipe import LOW_RANK, Frames, Method, Recipe
from sttp_riemann.training.snapshot import check_origin
from sttp_riemann.training.task import build_task


def plan(recipe: Recipe) -> list[Recipe]:
    """List the runs of a comparison: in each seed every low-rank method on every path, and the others once.

    Variants take turns, so that a machine that is slower for a while slows all of them.
    """
    variants: list[tuple[Method, Frames, str | None]] = []
    letters: list[str | None] = [*recipe.spectra] or [None]
    for method in recipe.methods:
        if method in LOW_RANK:
            variants.extend((method, path, letter) for letter in letters for path in recipe.paths)
        else:
            # It has no frames and no spectrum, so one path stands for all
            variants.append((method, recipe.paths[0], None))
    return [recipe.for_run(method, path, seed, letter) for seed in recipe.seeds for method, path, letter in variants]


def run_folder(recipe: Recipe, output: Path) -> Path:
    """Folder of one run of a comparison."""
    return output / recipe.label / f"seed{recipe.seed}"


def finish(recipe: Recipe, folder: Path) -> Result:
    """Get the result of a run: read it, or go on where it was cut off, or begin.

    Raises
    ------
    ReportedError
        The run cannot be had, or the folder holds another; see `Trainer`.
    """
    result = read_result(folder)
    if result is None:
        return Trainer(recipe, folder).run()
    check_origin(recipe, folder, result["recipe"], result["environment"]["sttp_riemann"])
    return result


def compare(recipe: Recipe, output: Path) -> tuple[list[Result], Path]:
    """Do all runs of a comparison that are not done yet, and write the report.

    Parameters
    ----------
    recipe : Recipe
        What to compare.
    output : Path
        Folder of the study.

    Returns
    -------
    list of Result
        Every run's.
    Path
        ``report.html``.

    Raises
    ------
    ReportedError
        A run cannot be had; what was finished stays, and the same command goes on from there.
    """
    runs = plan(recipe)
    _rehearse(runs)
    results = []
    with tqdm(total=len(runs), desc="compare", unit="run", disable=None) as bar:
        for run in runs:
            result = finish(run, run_folder(run, output))
            results.append(result)
            bar.update()
            tqdm.write(_line(run, result))
    return results, write_report(recipe, results, output)


def _rehearse(runs: Sequence[Recipe]) -> None:
    """Build what each variant trains, so that one that cannot be built is told of before others have run for hours."""
    for run in (run for run in runs if run.seed == runs[0].seed):
        build_task(run, build_accelerator(run))


def _line(run: Recipe, result: Result) -> str:
    final, milliseconds = result["final"], result["median_step_ms"]
    if run.task == "gan":
        told = ", ".join(f"{name} {final[name]:.4g}" for name in (*run.metrics, "diversity") if name in final)
    else:
        told = f"{100 * final['test_accuracy']:.2f} % test accuracy"
    return f"{title(run.label)}, seed {run.seed}: {told}, {milliseconds:.1f} ms a step"
