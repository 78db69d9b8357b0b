"""The ablation: all that it measures, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sttp_riemann.errors import RecipeError
from sttp_riemann.files import Lock, check_writable
from sttp_riemann.lab.studies.ablation import report
from sttp_riemann.lab.studies.ablation.grid import run_grid
from sttp_riemann.lab.studies.ablation.looks import Look, measure
from sttp_riemann.lab.studies.ablation.settings import Settings
from sttp_riemann.lab.studies.workers import spread


def ablate(settings: Settings, runs: Path, output: Path, workers: int = 1, command: Sequence[str] = ()) -> Path:
    """Compare both paths over ranks and learning rates, look into each, and write the page.

    Parameters
    ----------
    settings : Settings
        What to vary.
    runs : Path
        Folder of the runs; those that have ended there are not done again.
    output : Path
        The page, a Markdown file.
    workers : int
        How many runs are under way at a time.
    command : sequence of str
        What the page says that it was written by.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    RecipeError
        The output is no Markdown file.
    ReportedError
        The output cannot be written, another ablation is in the folder of the runs, or a run cannot be had; what was
        finished stays.
    """
    if output.suffix != ".md":
        raise RecipeError(f"output must be a Markdown file, such as comparison.md, not {str(output)!r}")
    check_writable(output)
    with Lock(runs):
        variants = run_grid(settings, runs, workers)
        tasks = [(settings, v.method, v.frames, v.rank) for v in variants]
        seen: dict[int, Look] = {}
        with tqdm(total=len(tasks), desc="probes", unit="probe", disable=None) as bar:
            for index, found in spread(measure, tasks, workers):
                seen[index] = Look(variants[index], *found)
                bar.update()
        return report.write(settings, [seen[index] for index in range(len(tasks))], output, command)
