"""The report of a benchmark: one Markdown file, its figures beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sttp_riemann.files import write_atomically
from sttp_riemann.lab.bench.contest import Entry
from sttp_riemann.lab.bench.figures import draw
from sttp_riemann.lab.bench.findings import findings
from sttp_riemann.lab.bench.sections import SECTIONS, Section
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.table import grid, markdown
from sttp_riemann.lab.training.machine import environment

NOTES = (
    "Contestants of a line take turns, each round begun by another, after a call that warms up. A time is the median "
    "over the rounds; a ratio (×) is the median over the rounds of the ratio within a round, which need not be the "
    "quotient of the medians.",
    "A contestant that might take minutes is tried in a process of its own: “> N s” means that it was ended after N "
    "seconds, “one call” that its time is that of one call alone.",
)
_CPU = Path("/proc/cpuinfo")


def write(results: Mapping[str, Sequence[Entry]], settings: Settings, output: Path) -> list[Path]:
    """Write tables and figures.

    Parameters
    ----------
    results : mapping
        Entries of each section, by its key.
    settings : Settings
        How they were measured.
    output : Path
        The Markdown file; its folder is made when missing.

    Returns
    -------
    list of Path
        All that was written, the Markdown file last.

    Raises
    ------
    CheckpointError
        A file cannot be written.
    """
    parts = ["# Benchmarks", _introduction(settings)]
    written = []
    for key, entries in results.items():
        section, image = SECTIONS[key], output.with_name(f"{output.stem}-{key}.png")
        parts.append(section_text(section, entries))
        if section.figure:
            write_atomically(image, draw(section.figure, entries, section.reference))
            parts.append(f"![{section.title}]({image.name})")
            written.append(image)
    parts += ["## How to read the tables", "\n".join(f"- {note}" for note in NOTES), "## Machine"]
    parts.append("\n".join(f"- {key}: {value}" for key, value in machine().items()))
    write_atomically(output, ("\n\n".join(parts) + "\n").encode())
    return [*written, output]


def section_text(section: Section, entries: Sequence[Entry]) -> str:
    """Write one section: its table and what it shows."""
    told = "\n".join(f"- {sentence}" for sentence in findings(section, entries))
    table = markdown(grid(entries, section.unit))
    return "\n\n".join(part for part in (f"## {section.title}", section.about, table, told) if part)


def machine() -> dict[str, Any]:
    """What it was measured on: processor, accelerator and versions; nothing that identifies the machine."""
    text = _CPU.read_text(encoding="utf-8", errors="replace") if _CPU.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return {"processor": found[1].strip() if found else "unknown", **environment()}


def _introduction(settings: Settings) -> str:
    options = [f"--device {settings.device}", f"--repetitions {settings.repetitions}", f"--budget {settings.budget:g}"]
    options += ["--quick"] * settings.quick + ["--compile"] * settings.compile
    text = f"Written by `sttp-riemann bench {' '.join(options)}`: medians of up to {settings.repetitions} rounds."
    return text + " **Tiny shapes (`--quick`): the times mean nothing.**" * settings.quick
