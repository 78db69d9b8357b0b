"""The report of a study: results.csv, figures, report.md and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from sttp_riemann.study.contents import Contents
from sttp_riemann.study.findings import findings
from sttp_riemann.study.page import page
from sttp_riemann.study.plots import figures
from sttp_riemann.study.results import Result, table, tabulate, to_csv
from sttp_riemann.training.checkpoint import write_atomically
from sttp_riemann.training.recipe import Recipe

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


def write_report(recipe: Recipe, results: Sequence[Result], folder: Path) -> Path:
    """Write everything that a study shows.

    Parameters
    ----------
    recipe : Recipe
        The study.
    results : sequence of Result
        Its finished runs.
    folder : Path
        Where to; made when missing.

    Returns
    -------
    Path
        ``report.html``.

    Raises
    ------
    CheckpointError
        A file cannot be written.
    """
    contents = _contents(recipe, results, folder)
    shown = recipe_text(recipe)
    machine = results[0]["environment"]
    write_atomically(folder / "results.csv", contents.csv.encode())
    for name, (_, png) in contents.figures.items():
        write_atomically(folder / "figures" / f"{name}.png", png)
    write_atomically(folder / "report.md", _markdown(recipe, contents, shown, machine).encode())
    html = page(recipe.name, recipe.summary, contents, shown, machine)
    write_atomically(folder / "report.html", html.encode())
    return folder / "report.html"


def table_of(recipe: Recipe, results: Sequence[Result], folder: Path) -> str:
    """Write the table of a study in Markdown, aligned for a terminal; `folder` is where its runs are."""
    if recipe.task == "gan":
        from sttp_riemann.study.gan_results import gan_table, tabulate_gan

        return markdown_table(gan_table(recipe, tabulate_gan(results, folder)))
    return markdown_table(table(tabulate(results)))


def _contents(recipe: Recipe, results: Sequence[Result], folder: Path) -> Contents:
    if recipe.task == "gan":
        from sttp_riemann.study.gan_report import gan_contents

        return gan_contents(recipe, results, folder)
    rows = tabulate(results)
    drawn = figures(results, rows)
    return Contents(table(rows), to_csv(rows), findings(rows), NOTES, drawn, ("singular_values",))


def recipe_text(recipe: Recipe) -> str:
    """Write the recipe as YAML, without the folders of this machine."""
    hidden = ("output", "data_root", "extractor_weights", "method", "frames", "seed")
    fields = {k: v for k, v in recipe.to_dict().items() if k not in hidden}
    if fields["data"].startswith("folder:"):
        fields["data"] = f"folder:{Path(fields['data']).name}"
    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=100)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Write a table, its first line the names of the columns, in Markdown, aligned for a terminal."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def join(line: Sequence[str]) -> str:
        return "| " + " | ".join(_justify(i, text, widths[i]) for i, text in enumerate(line)) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([join(lines[0]), rule, *(join(line) for line in lines[1:])])


def _justify(column: int, text: str, width: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def _markdown(
    recipe: Recipe,
    contents: Contents,
    shown: str,
    machine: dict[str, object],
) -> str:
    parts = [f"# {recipe.name}", recipe.summary, markdown_table(contents.table), "## What the numbers show"]
    parts.append("\n".join(f"- {sentence}" for sentence in contents.told))
    parts.append("## Figures")
    parts.extend(f"![{name}](figures/{name}.png)\n\n{caption}" for name, (caption, _) in contents.figures.items())
    parts.extend(["## How to read the table", "\n".join(f"- {note}" for note in contents.notes)])
    parts.extend(["## Recipe", f"```yaml\n{shown}```", "## Environment"])
    parts.append("\n".join(f"- {key}: {value}" for key, value in machine.items()))
    return "\n\n".join(p for p in parts if p) + "\n"
