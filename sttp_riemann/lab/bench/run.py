"""Running the benchmark."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from sttp_riemann.files import check_writable
from sttp_riemann.lab.bench.contest import Entry
from sttp_riemann.lab.bench.report import section_text, write
from sttp_riemann.lab.bench.sections import SECTIONS
from sttp_riemann.lab.bench.settings import Settings, check_output


def bench(settings: Settings, output: Path) -> Path:
    """Measure what is asked for, and write the report.

    Parameters
    ----------
    settings : Settings
        What to measure, and how.
    output : Path
        The report, a Markdown file; figures go beside it.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    BenchError
        The report cannot have that name.
    CheckpointError
        It cannot be written.
    """
    check_output(output)
    check_writable(output)
    plans = {key: SECTIONS[key].plan(settings) for key in SECTIONS if key in settings.rows}
    results: dict[str, list[Entry]] = {}
    with tqdm(total=sum(map(len, plans.values())), desc="bench", unit="row", disable=None) as bar:
        for key, jobs in plans.items():
            results[key] = []
            for job in jobs:
                bar.set_postfix_str(f"{key}: {job.label}")
                results[key] += job.measure()
                bar.update()
            tqdm.write(section_text(SECTIONS[key], results[key]) + "\n")
    return write(results, settings, output)[-1]
