from __future__ import annotations

import html.parser

import pytest
import yaml

from sttp_riemann.errors import CheckpointError
from sttp_riemann.lab.studies.markdown import cell, code, markdown_table
from sttp_riemann.lab.studies.report import recipe_text, write_report
from sttp_riemann.lab.studies.results import table, tabulate
from sttp_riemann.lab.training.recipe import Recipe


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
    write_report(Recipe().changed(name="a <b> & c", summary="what it is"), results, tmp_path)
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


def test_no_html_of_a_recipe_or_a_machine_is_in_the_markdown(results, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    results = [{**run, "environment": {**run["environment"], evil: evil}} for run in results]
    recipe = Recipe().changed(name=f"a {evil}", summary=evil, network_options={"```\n<b>": "````"})
    write_report(recipe, results, tmp_path, remarks=[f"a remark {evil}"])
    outside, *_ = blocks = (tmp_path / "report.md").read_text().split("\n`````")
    assert "<" not in outside + blocks[2]
    # The block of the recipe ends where it is meant to, whatever is in it
    assert len(blocks) == 3
    assert blocks[1].startswith("yaml\n")
    assert "&lt;img src=x onerror=alert(1)&gt;" in outside
    assert "# a &lt;img" in outside


def test_a_bar_in_a_cell_makes_no_column():
    lines = [["method", "x"], ["a|b", "1"]]
    assert markdown_table([[cell(text) for text in line] for line in lines]).splitlines()[2] == r"| a\|b   | 1 |"


def test_figures_are_not_written_through_a_link(results, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "figures").symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match="a link or a file is where a folder"):
        write_report(Recipe(), results, tmp_path / "page")
    assert list((tmp_path / "victim").iterdir()) == []


def test_code_in_a_sentence_ends_where_it_is_meant_to():
    assert code("a b") == "`a b`"
    assert code("a `b`` c") == "``` a `b`` c ```"


def test_the_recipe_is_told_as_yaml_without_folders_of_this_machine():
    text = recipe_text(Recipe().changed(output="/home/me/out", data_root="/home/me/data", data="folder:/home/me/cats"))
    assert "/home/me" not in text
    fields = yaml.safe_load(text)
    assert fields["data"]["name"] == "folder:cats"
    assert Recipe.from_dict(fields).optimizer == Recipe().optimizer


def test_the_columns_of_a_table_are_aligned(results):
    lines = markdown_table(table(tabulate(results))).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1
