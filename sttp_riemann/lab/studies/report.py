"""The report of a study: results.csv, figures, report.md and report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from sttp_riemann.files import check_writable, refuse_links, write_atomically
from sttp_riemann.lab.studies.contents import Contents
from sttp_riemann.lab.studies.findings import findings
from sttp_riemann.lab.studies.markdown import cell, fenced, markdown_table, plain
from sttp_riemann.lab.studies.page import page
from sttp_riemann.lab.studies.plots import figures
from sttp_riemann.lab.studies.results import Result, table, tabulate, to_csv
from sttp_riemann.lab.training.recipe import FIELDS, Recipe, nest

FIGURES = "figures"
CSV, MARKDOWN, HTML = "results.csv", "report.md", "report.html"
NOTES = (
    "Accuracy is the mean over seeds ± two standard deviations.",
    "Z is the size of the whole network relative to the dense one: degrees of freedom of the reparameterized weights "
    "and all other numbers, batch-norm statistics included.",
    "Degrees of freedom and stored numbers are those of the weight matrices alone.",
    "Step time is the median over a run's steps of forward, backward and optimizer, without evaluation, and the "
    "median over seeds of that.",
    "Orthogonality error is the largest entry of |XᵀX − I| over all frames, at the worst evaluation of the worst seed.",
    "The largest singular value is that of the layers as matrices, after training.",
)


def write_report(recipe: Recipe, results: Sequence[Result], folder: Path, remarks: Sequence[str] = ()) -> Path:
    """Write everything that a study shows.

    Parameters
    ----------
    recipe : Recipe
        The study.
    results : sequence of Result
        Its finished runs.
    folder : Path
        Where to; made when missing.
    remarks : sequence of str
        What else is to be said of the runs.

    Returns
    -------
    Path
        ``report.html``.

    Raises
    ------
    CheckpointError
        A file cannot be written.
    """
    contents = _contents(recipe, results)
    contents = replace(contents, told=[*contents.told, *remarks])
    shown = recipe_text(recipe)
    machine = _environment(results)
    write_atomically(folder / CSV, contents.csv.encode())
    for name, (_, png) in contents.figures.items():
        write_atomically(folder / FIGURES / f"{name}.png", png, inside=folder)
    write_atomically(folder / MARKDOWN, _markdown(recipe, contents, shown, machine).encode())
    html = page(recipe.name, recipe.summary, contents, shown, machine)
    write_atomically(folder / HTML, html.encode())
    return folder / HTML


def check_report(folder: Path) -> None:
    """Refuse a folder that a report could not be written to, before the long part.

    Raises
    ------
    CheckpointError
        The message names what is in the way.
    """
    refuse_links(folder / FIGURES, folder)
    for path in (folder / name for name in (CSV, MARKDOWN, HTML)):
        check_writable(path)


def _environment(results: Sequence[Result]) -> dict[str, str]:
    """What runs were made with, all values where they differ."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in result["environment"].items():
            found.setdefault(key, {})[str(value)] = None
    return {key: " or ".join(values) for key, values in found.items()}


def table_of(recipe: Recipe, results: Sequence[Result]) -> str:
    """Write the table of a study in Markdown, aligned for a terminal.

    Parameters
    ----------
    recipe : Recipe
        The study.
    results : sequence of Result
        Its finished runs.

    Returns
    -------
    str
        Lines, the names of the columns first.

    Raises
    ------
    CheckpointError
        A run's records cannot be read.
    """
    if recipe.task == "gan":
        from sttp_riemann.lab.studies.gan_results import gan_table, tabulate_gan

        return markdown_table(gan_table(recipe, tabulate_gan(results)))
    return markdown_table(table(tabulate(results)))


def _contents(recipe: Recipe, results: Sequence[Result]) -> Contents:
    if recipe.task == "gan":
        from sttp_riemann.lab.studies.gan_report import gan_contents

        return gan_contents(recipe, results)
    rows = tabulate(results)
    drawn = figures(results, rows)
    return Contents(table(rows), to_csv(rows), findings(rows), NOTES, drawn, ("singular_values",))


def recipe_text(recipe: Recipe) -> str:
    """Write the recipe as YAML, without the folders of this machine.

    Parameters
    ----------
    recipe : Recipe
        The study.

    Returns
    -------
    str
        YAML.
    """
    given = recipe.flat()
    hidden = {name for name, field in FIELDS.items() if field.local or "run" in field.scope}
    if recipe.study.rank_unused:
        hidden.add("rank")
    if given["data"].startswith("folder:"):
        given["data"] = f"folder:{Path(given['data']).name}"
    fields = nest({name: value for name, value in given.items() if name not in hidden})
    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=100)


def _markdown(
    recipe: Recipe,
    contents: Contents,
    shown: str,
    machine: Mapping[str, object],
) -> str:
    table = [[cell(text) for text in line] for line in contents.table]
    parts = [f"# {plain(recipe.name)}", plain(recipe.summary), markdown_table(table), "## What the numbers show"]
    parts.append("\n".join(f"- {plain(sentence)}" for sentence in contents.told))
    parts.append("## Figures")
    drawn = contents.figures.items()
    parts.extend(f"![{name}]({FIGURES}/{name}.png)\n\n{plain(caption)}" for name, (caption, _) in drawn)
    parts.extend(["## How to read the table", "\n".join(f"- {note}" for note in contents.notes)])
    parts.extend(["## Recipe", fenced(shown, "yaml"), "## Environment"])
    parts.append("\n".join(f"- {plain(key)}: {plain(value)}" for key, value in machine.items()))
    return "\n\n".join(p for p in parts if p) + "\n"
