"""The benchmark: what it measures, and its report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
import yaml
from tqdm import tqdm

from sttp_riemann.lab.bench import cores, frames, layers, networks
from sttp_riemann.lab.bench.contest import Contest, Row
from sttp_riemann.lab.bench.race import operator_calls, peak_memory, race
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.show import bars, cells, curves, findings, summarize
from sttp_riemann.lab.progress import progress
from sttp_riemann.lab.studies.looks import STYLE, Drawing
from sttp_riemann.lab.studies.report import Report, Section, check_report, render
from sttp_riemann.lab.training.machine import environment

WORDS = Path(__file__).with_name("parts.yaml")
TINY = " Tiny shapes (quick): the times mean nothing."
_CPU = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Part:
    """A part of the benchmark, which is one section of the report.

    Attributes
    ----------
    contests : callable
        From settings to what is measured.
    measure : callable
        From a contest and settings to rows.
    draw : callable, optional
        From a name, a title and the summary to a figure.
    """

    contests: Callable[[Settings], list[Contest]]
    measure: Callable[[Contest, Settings], list[Row]] = race
    draw: Callable[[str, str, pd.DataFrame], Drawing] | None = None


PARTS = {
    "frames": Part(frames.frames, race, bars),
    "optimizer": Part(cores.optimizer),
    "weights": Part(cores.weights),
    "training": Part(networks.training, race, bars),
    "memory": Part(networks.papers, peak_memory, bars),
    "growth": Part(networks.growth, race, curves),
    "serving": Part(layers.serving),
    "language": Part(layers.language),
    "stack": Part(layers.stack, peak_memory),
    "calls": Part(cores.calls, operator_calls),
}
"""Parts by the name that the command line takes, in the order of the report; what they are called is in parts.yaml."""


def bench(settings: Settings, output: Path) -> Report:
    """Measure what is asked for, and write the report.

    Parameters
    ----------
    settings : Settings
        What to measure, and how.
    output : Path
        Folder of the report.

    Returns
    -------
    Report
        Its table has a row a measurement.

    Raises
    ------
    CheckpointError
        The report cannot be written.
    """
    check_report(output)
    words = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    planned = {key: part.contests(settings) for key, part in PARTS.items() if key in settings.rows}
    tables, sections = {}, []
    with progress(sum(map(len, planned.values())), "bench", "contest") as bar:
        for key, contests in planned.items():
            rows: list[Row] = []
            for contest in contests:
                rows += PARTS[key].measure(contest, settings)
                bar.update()
            tables[key] = pd.DataFrame(rows).assign(unit=words[key]["unit"])
            sections.append(section_of(key, tables[key], **words[key]))
            tqdm.write(f"{sections[-1]}\n")
    report = Report(
        name="Benchmarks",
        summary=f"Medians of up to {settings.repetitions} rounds." + TINY * settings.quick,
        table=pd.concat(tables, names=["part", None]).reset_index("part"),
        sections=sections,
        notes=render("bench/notes.md.j2"),
        recipe=yaml.safe_dump({**dataclasses.asdict(settings), "rows": list(settings.rows)}, sort_keys=False),
        environment={"processor": _processor(), **environment()},
        folder=output,
    )
    report.write(output)
    return report


def section_of(key: str, table: pd.DataFrame, title: str, unit: str, about: str) -> Section:
    """Make the section of a report from the rows of one part."""
    summary, draw = summarize(table), PARTS[key].draw
    with matplotlib.rc_context(STYLE):
        drawings = [] if draw is None else [draw(key, title, summary)]
    return Section(cells(summary, unit), findings(summary), drawings, title, about.format(**networks.CHAIN[False]))


def _processor() -> str:
    text = _CPU.read_text(encoding="utf-8", errors="replace") if _CPU.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else "unknown"
