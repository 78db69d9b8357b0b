"""The report that every study and benchmark writes: tables, findings and figures as Markdown, HTML, CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import markdown
import matplotlib.figure
import pandas as pd

from sttp_riemann.files import check_writable, refuse_links, write_atomically
from sttp_riemann.lab.studies.looks import Drawing

FIGURES = "figures"
FILES = CSV, LATEX, MARKDOWN, HTML = "results.csv", "table.tex", "report.md", "report.html"


@dataclass(frozen=True)
class Section:
    """A table for readers, what it shows, and its figures.

    Attributes
    ----------
    table : pandas.DataFrame
        Cells as text.
    findings : sequence of str
        Sentences made from the numbers.
    drawings : sequence of Drawing
        Figures with their captions.
    title, about : str
        Heading and introduction; both empty where a report has one section only.
    """

    table: pd.DataFrame
    findings: Sequence[str]
    drawings: Sequence[Drawing]
    title: str = ""
    about: str = ""

    def __str__(self) -> str:
        return f"{self.title}\n\n{markdown_table(self.table)}".strip()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables, findings and figures, which are shown and written in one way.

    Attributes
    ----------
    name, summary : str
        Title, and one line on it.
    table : pandas.DataFrame
        The tidy table for programs: a row a run or a measurement.
    sections : sequence of Section
        What readers see, part by part.
    notes : str
        How to read the tables, in Markdown.
    recipe : str
        What it was made by, as YAML.
    environment : mapping
        What it was made with.
    folder : Path or None
        Where it was written.
    """

    name: str
    summary: str
    table: pd.DataFrame
    sections: Sequence[Section]
    notes: str
    recipe: str
    environment: Mapping[str, object]
    folder: Path | None = None

    @property
    def findings(self) -> list[str]:
        """Sentences made from the numbers."""
        return [sentence for section in self.sections for sentence in section.findings]

    @property
    def drawings(self) -> list[Drawing]:
        """Figures with their captions."""
        return [drawing for section in self.sections for drawing in section.drawings]

    @property
    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """Figures of matplotlib, by name."""
        return {drawing.name: drawing.figure for drawing in self.drawings}

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.sections))

    def _repr_html_(self) -> str:
        return self._body(self._drawn())

    def markdown(self) -> str:
        """Give the report in Markdown, with links to its figures."""
        return render(f"studies/{MARKDOWN}.j2", report=self, figures=FIGURES) + "\n"

    def html(self) -> str:
        """Give the report as one page with its figures inside."""
        return self._page(self._drawn())

    def _drawn(self) -> dict[str, str]:
        return {drawing.name: drawing.svg() for drawing in self.drawings}

    def _page(self, drawn: Mapping[str, str]) -> str:
        return render(f"studies/{HTML}.j2", name=escape(self.name), body=self._body(drawn))

    def _body(self, drawn: Mapping[str, str]) -> str:
        body = markdown.markdown(self.markdown(), extensions=["tables", "fenced_code"])
        for drawing in self.drawings:
            image = re.compile(rf'<p><img alt="{drawing.name}" src="[^"]*"\s*/?></p>')
            figure = f"<figure>{drawing.element(drawn[drawing.name])}</figure>"
            body = image.sub(figure.replace("\\", r"\\"), body, count=1)
        return body

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
        latex = "\n".join(s.table.to_latex(index=False, escape=True, caption=s.title or None) for s in self.sections)
        drawn = self._drawn()
        texts = (self.table.to_csv(index=False, float_format="%.6g"), latex, self.markdown(), self._page(drawn))
        for name, text in zip(FILES, texts, strict=True):
            write_atomically(folder / name, text.encode())
        for drawing in self.drawings:
            write_atomically(folder / FIGURES / f"{drawing.name}.png", drawing.png(), inside=folder)
            write_atomically(folder / FIGURES / f"{drawing.name}.svg", drawn[drawing.name].encode(), inside=folder)
        return folder / HTML


def check_report(folder: Path) -> None:
    """Refuse a folder that the report cannot be written to, before the long part.

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
    >>> from sttp_riemann.lab.studies.report import plain
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
    >>> from sttp_riemann.lab.studies.report import markdown_table
    >>> print(markdown_table(pd.DataFrame({"method": ["dense"], "Z (%)": ["100.00"]})))
    | method |  Z (%) |
    |:-------|-------:|
    | dense  | 100.00 |
    """
    lines = [list(table.columns), *table.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))] for line in lines
    ]
    rule = "|".join(f"{'-' * (w + 1)}:" if i else f":{'-' * (w + 1)}" for i, w in enumerate(widths))
    head, *rest = (f"| {' | '.join(line)} |" for line in padded)
    return "\n".join([head, f"|{rule}|", *rest])


def render(template: str, **values: Any) -> str:
    """Fill in a template of the laboratory, named by its path in there."""
    # Of what comes from outside, all is plain before it gets into a page
    loader = jinja2.FileSystemLoader(Path(__file__).parents[1])
    templates = jinja2.Environment(loader=loader, autoescape=False, undefined=jinja2.StrictUndefined)
    templates.filters["plain"], templates.filters["fenced"] = plain, fenced
    templates.filters["table"] = lambda table: markdown_table(table.map(plain).rename(columns=plain))
    return templates.get_template(template).render(**values)
