"""A study: its table, figures and findings, and the report that is written of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import markdown
import matplotlib
import pandas as pd
import yaml

from sttp_riemann.errors import RecipeError
from sttp_riemann.files import check_writable, refuse_links, write_atomically
from sttp_riemann.lab.studies.ablation.probes import attach
from sttp_riemann.lab.studies.classify import CLASSIFY
from sttp_riemann.lab.studies.findings import findings
from sttp_riemann.lab.studies.gan import GAN
from sttp_riemann.lab.studies.looks import STYLE, Drawing
from sttp_riemann.lab.studies.page import Kind, Page, build_page
from sttp_riemann.lab.studies.runs import Result, find, recipe_of
from sttp_riemann.lab.studies.variant import bearing

FIGURES = "figures"
FILES = CSV, LATEX, MARKDOWN, HTML = "results.csv", "table.tex", "report.md", "report.html"
KINDS: dict[str, Kind] = {"classify": CLASSIFY, "gan": GAN}
"""What studies of each task measure, draw and tell."""
# Of one machine, or said by the rows of the table
HIDDEN = ("name", "summary", "output", "data_root", "extractor_weights", "method", "frames", "seed", "paper")
HIDDEN_TOO = ("methods", "paths", "spectra", "ranks", "seeds", "recompute", "download", "keep", "tensorboard")


@dataclass(frozen=True)
class Study:
    """Finished runs and what they show.

    Attributes
    ----------
    name, summary : str
        Its title and one line on it.
    page : Page
        The table of its runs, with their results.
    margin : float or None
        Difference in the first measure that does not matter; that measure's own where None.
    skipped : tuple of str
        Folders that were looked into and hold no finished run, each with the reason.
    folder : Path or None
        Where its report was written.
    """

    name: str
    summary: str
    page: Page
    margin: float | None = None
    skipped: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def table(self) -> pd.DataFrame:
        """A row a run: variant, seed, measures, these in the units that metrics have."""
        return self.page.for_files()

    @property
    def results(self) -> list[Result]:
        """What each run's ``result.json`` holds, in the order of the table."""
        return self.page.results

    @cached_property
    def findings(self) -> list[str]:
        """Sentences made from the statistics of the table."""
        return findings(self.page, self.margin)

    @cached_property
    def drawings(self) -> list[Drawing]:
        """Figures with their captions."""
        with matplotlib.rc_context(STYLE):
            return [d for draw in self.page.kind.figures if (d := draw(self.page)) is not None]

    @property
    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """Figures of matplotlib, by name."""
        return {drawing.name: drawing.figure for drawing in self.drawings}

    def __str__(self) -> str:
        return markdown_table(self.page.summary())

    def _repr_html_(self) -> str:
        told = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.findings)
        drawn = "".join(f"<figure>{d.svg(page=True)}</figure><p>{escape(d.caption)}</p>" for d in self.drawings)
        return f"<h2>{escape(self.name)}</h2>{self.page.summary().to_html(index=False)}<ul>{told}</ul>{drawn}"

    def markdown(self) -> str:
        """Give the report in Markdown, with links to its figures."""
        return (
            _templates()
            .get_template(f"{MARKDOWN}.j2")
            .render(
                name=self.name,
                summary=self.summary,
                table=markdown_table(self.page.summary().map(plain).rename(columns=plain)),
                findings=self.findings,
                drawings=self.drawings,
                figures=FIGURES,
                notes=self.page.kind.notes,
                recipe=recipe_text(self.results),
                environment=_environment(self.results),
            )
        )

    def html(self) -> str:
        """Give the report as one page with its figures inside."""
        body = markdown.markdown(self.markdown(), extensions=["tables", "fenced_code"])
        for drawing in self.drawings:
            image = re.compile(rf'<p><img alt="{drawing.name}" src="[^"]*"\s*/?></p>')
            drawn = f"<figure>{drawing.svg(page=True)}</figure>"
            body = image.sub(drawn.replace("\\", r"\\"), body, count=1)
        return _templates().get_template(f"{HTML}.j2").render(name=escape(self.name), body=body)

    def write(self, folder: Path) -> Path:
        """Write the report: Markdown, HTML, tables as CSV and LaTeX, figures as PNG and SVG.

        Parameters
        ----------
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
        table = self.table.drop(columns=[] if self.page.tuned else ["chosen"])
        latex = self.page.summary().map(_latex).rename(columns=_latex).to_latex(index=False, escape=False)
        texts = (table.to_csv(index=False, float_format="%.6g"), latex, self.markdown(), self.html())
        for name, text in zip(FILES, texts, strict=True):
            write_atomically(folder / name, text.encode())
        for drawing in self.drawings:
            write_atomically(folder / FIGURES / f"{drawing.name}.png", drawing.png(), inside=folder)
            write_atomically(folder / FIGURES / f"{drawing.name}.svg", drawing.svg().encode(), inside=folder)
        return folder / HTML


def collect(paths: Sequence[Path], name: str, margin: float | None = None) -> Study:
    """Make a study of the finished runs in folders, whichever commands made them.

    Parameters
    ----------
    paths : sequence of Path
        Folders of runs, or folders that hold such at any depth.
    name : str
        Of the study where the runs are of recipes of several names.
    margin : float, optional
        Difference in the first measure that does not matter.

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
    check_margin(margin)
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
    page = build_page(results, KINDS[results[0]["recipe"]["task"]])
    return Study(names[0] if len(names) == 1 else name, summary, page, margin, tuple(skipped))


def check_margin(margin: float | None) -> None:
    """Refuse a margin within which nothing can be.

    Raises
    ------
    RecipeError
        The message gives the range.
    """
    if margin is not None and not 0 < margin < math.inf:
        raise RecipeError(f"margin must be positive and finite, not {margin}")


def check_report(folder: Path) -> None:
    """Refuse a folder that a report could not be written to, before the long part.

    Raises
    ------
    CheckpointError
        The message names what is in the way.
    """
    refuse_links(folder / FIGURES, folder)
    for path in (folder / name for name in FILES):
        check_writable(path)


def plain(text: object) -> str:
    r"""Write a text on one line of Markdown so that nothing in it is markup.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.study import plain
    >>> plain("a <script> | *b*")
    'a &lt;script&gt; \\| \\*b\\*'
    """
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", escape(" ".join(str(text).split()), quote=False))


def fenced(text: str) -> str:
    """Write YAML as a block of code that it cannot end itself."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"


def markdown_table(table: pd.DataFrame) -> str:
    """Write a table of texts in Markdown, aligned for a terminal.

    Examples
    --------
    >>> import pandas as pd
    >>> from sttp_riemann.lab.studies.study import markdown_table
    >>> print(markdown_table(pd.DataFrame({"method": ["dense"], "Z (%)": ["100.00"]})))
    | method |  Z (%) |
    |:-------|-------:|
    | dense  | 100.00 |
    """
    lines = [list(table.columns), *table.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def row(cells: Sequence[str]) -> str:
        sides = zip(cells, widths, strict=True)
        return f"| {' | '.join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(sides))} |"

    rule = "".join(f"{'-' * (w + 1)}:|" if i else f"|:{'-' * (w + 1)}|" for i, w in enumerate(widths))
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])


def recipe_text(results: Sequence[Result]) -> str:
    """Write what the runs were made by as YAML, lists where they differ, without the folders of this machine."""
    shared: dict[str, Any] = {}
    for name in results[0]["recipe"]:
        if name in HIDDEN or name in HIDDEN_TOO:
            continue
        values = {repr(result["recipe"][name]): result["recipe"][name] for result in results}
        shared[name] = next(iter(values.values())) if len(values) == 1 else list(values.values())
    if shared["data"].startswith("folder:"):
        shared["data"] = f"folder:{Path(shared['data']).name}"
    return yaml.safe_dump(shared, sort_keys=False, default_flow_style=None, width=100)


def _environment(results: Sequence[Result]) -> Mapping[str, str]:
    """What runs were made with, all values where they differ."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in result["environment"].items():
            found.setdefault(key, {})[str(value)] = None
    return {key: " or ".join(values) for key, values in found.items()}


def _latex(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text.replace("±", r"$\pm$").replace("–", "--")


def _templates() -> jinja2.Environment:
    # The body of the page is made from the Markdown, in which all that comes from outside is plain
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    found = jinja2.Environment(loader=loader, autoescape=False, undefined=jinja2.StrictUndefined)
    found.filters.update(plain=plain, fenced=fenced)
    return found
