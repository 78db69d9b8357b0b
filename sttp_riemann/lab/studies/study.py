"""A study: its table, figures and findings, and the report that is written of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import yaml

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.data.registry import ARGUMENTS
from sttp_riemann.lab.studies.classify import CLASSIFY
from sttp_riemann.lab.studies.findings import findings
from sttp_riemann.lab.studies.gan import GAN
from sttp_riemann.lab.studies.looks import STYLE
from sttp_riemann.lab.studies.page import DEFAULT, Kind, Page, build_page
from sttp_riemann.lab.studies.probes import attach
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.regress import REGRESS
from sttp_riemann.lab.studies.report import Report, Section
from sttp_riemann.lab.studies.runs import Result, find, recipe_of
from sttp_riemann.lab.studies.variant import bearing

KINDS: dict[str, Kind] = {"classify": CLASSIFY, "regress": REGRESS, "gan": GAN}
"""What studies of each task measure, draw and report."""
# Of one machine, or said by the rows of the table
HIDDEN = {"name", "summary", "output", "data_root", "extractor_weights", "method", "frames", "seed", "paper"}
HIDDEN |= {"methods", "paths", "spectra", "ranks", "seeds", "recompute", "memory", "download", "keep", "tensorboard"}


@dataclass(frozen=True, kw_only=True)
class Study(Report):
    """Finished runs and what they show.

    Attributes
    ----------
    name, summary : str
        Its title and one line on it.
    table : pandas.DataFrame
        A row a run: variant, seed, measures, these in the units that metrics have.
    findings : list of str
        Sentences made from the statistics of the table.
    figures : dict
        Figures of matplotlib, by name.
    page : Page
        The table in the units of readers, and the results of the runs.
    skipped : tuple of str
        Folders that were looked into and hold no finished run, each with the reason.
    folder : Path or None
        Where its report was written.
    """

    page: Page
    skipped: tuple[str, ...] = ()

    @property
    def results(self) -> list[Result]:
        """What each run's ``result.json`` holds, in the order of the table."""
        return self.page.results


def study_of(name: str, summary: str, page: Page, skipped: Sequence[str] = ()) -> Study:
    """Make a study of a page.

    Parameters
    ----------
    name, summary : str
        Its title and one line on it.
    page : Page
        The table of its runs, with their results.
    skipped : sequence of str
        Folders without a finished run, each with the reason.

    Returns
    -------
    Study
    """
    with matplotlib.rc_context(STYLE):
        drawings = [drawing for draw in page.kind.figures if (drawing := draw(page)) is not None]
    return Study(
        name=name,
        summary=summary,
        table=page.for_files(),
        sections=[Section(page.summary(), findings(page), drawings)],
        notes=page.kind.notes,
        recipe=recipe_text(page.results),
        environment={
            key: " or ".join(map(str, values))
            for key, values in _distinct(result["environment"] for result in page.results).items()
        },
        page=page,
        skipped=tuple(skipped),
    )


def collect(paths: Sequence[Path], name: str, reading: Reading = DEFAULT) -> Study:
    """Make a study of the finished runs in folders, whichever commands made them.

    Parameters
    ----------
    paths : sequence of Path
        Folders of runs, or folders that hold such at any depth.
    name : str
        Of the study where the runs are of recipes of several names.
    reading : Reading
        How to read them.

    Returns
    -------
    Study

    Raises
    ------
    RecipeError
        There is no finished run, or some cannot be compared; the message names two of them and the field.
    CheckpointError
        What a run recorded cannot be read.
    """
    results, skipped = find(paths)
    if not results:
        raise RecipeError(f"there is no finished run to report: {'; '.join(skipped)}")
    runs: dict[str, Result] = {}
    for result in attach(results, paths):
        first = runs.setdefault(repr(bearing(recipe_of(result))), result)
        if first is not result:
            skipped.append(f"{result['folder']} is the same run as {first['folder']}")
    results = list(runs.values())
    names = list(dict.fromkeys(result["recipe"]["name"] for result in results))
    summary = results[0]["recipe"]["summary"] if len(names) == 1 else f"runs of {', '.join(names)}"
    page = build_page(results, KINDS[results[0]["recipe"]["task"]], reading)
    return study_of(names[0] if len(names) == 1 else name, summary, page, skipped)


def recipe_text(results: Sequence[Result]) -> str:
    """Write what the runs were made by as YAML, lists where they differ, without the folders of this machine."""
    fields = _distinct({k: v for k, v in result["recipe"].items() if k not in HIDDEN} for result in results)
    shared: dict[str, Any] = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
    kind, _, place = shared["data"].partition(":")
    if ARGUMENTS.get(kind) in ("PATH", "FILE"):
        shared["data"] = f"{kind}:{Path(place).name}"
    for name in ("weights", "generator_weights"):
        if isinstance(shared[name], str):
            shared[name] = Path(shared[name]).name
    return yaml.safe_dump(shared, sort_keys=False, default_flow_style=None, width=100)


def _distinct(mappings: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Give by key the values that differ, in order."""
    found: dict[str, dict[str, Any]] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            found.setdefault(key, {})[repr(value)] = value
    return {key: list(values.values()) for key, values in found.items()}
