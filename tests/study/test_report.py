from __future__ import annotations

import html.parser

import pytest
import yaml

from sttp_riemann.study.markdown import markdown_table
from sttp_riemann.study.report import recipe_text, write_report
from sttp_riemann.study.results import table, tabulate
from sttp_riemann.training.recipe import Recipe


class Page(html.parser.HTMLParser):
    """Counts what a page is made of, and sees to it that what opens also closes."""

    EMPTY = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def folder(results, tmp_path):
    write_report(Recipe(name="a <b> & c", summary="what it is"), results, tmp_path)
    return tmp_path


def test_a_study_has_its_table_figures_and_reports(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["figures", "report.html", "report.md", "results.csv"]
    assert len(list((folder / "figures").iterdir())) == 6


def test_the_page_is_well_formed_and_needs_no_other_file(folder):
    page = Page((folder / "report.html").read_text())
    assert page.open == []
    assert page.counts["img"] == 6
    assert page.counts["tr"] == 6
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


def test_names_are_escaped_in_the_page(folder):
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in (folder / "report.html").read_text()


def test_the_markdown_shows_the_figures_that_are_there(folder):
    text = (folder / "report.md").read_text()
    assert all(f"](figures/{path.name})" in text for path in (folder / "figures").iterdir())
    assert text.startswith("# a &lt;b&gt; &amp; c\n\nwhat it is\n\n| method")


def test_the_recipe_is_told_as_yaml_without_folders_of_this_machine():
    text = recipe_text(Recipe(output="/home/me/out", data_root="/home/me/data", data="folder:/home/me/cats"))
    assert "/home/me" not in text
    fields = yaml.safe_load(text)
    assert fields["data"] == "folder:cats"
    assert Recipe.from_dict(fields).lr == Recipe().lr


def test_the_columns_of_a_table_are_aligned(results):
    lines = markdown_table(table(tabulate(results))).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1
