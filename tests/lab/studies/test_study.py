from __future__ import annotations

import csv
import html.parser
import io
import json
import re

import pandas as pd
import pytest
import yaml

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.studies.report import fenced, markdown_table, plain
from sttp_riemann.lab.studies.study import collect, recipe_text, study_of
from sttp_riemann.lab.training.recipe import Recipe
from tests.lab.studies.conftest import curves, page, result, store, study


class Page(html.parser.HTMLParser):
    """Counts what a page is made of, and sees to it that what opens also closes."""

    EMPTY = ("meta", "img", "hr", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


FIGURES = ["points", "singular_values", "steps"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study_of("a <b> & c", "what it is", page(study())).write(folder)
    return folder


def test_a_study_has_its_tables_figures_and_reports(folder):
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["figures", "report.html", "report.md", "results.csv", "table.tex"]
    assert sorted(p.name for p in (folder / "figures").iterdir()) == [
        f"{n}.{s}" for n in FIGURES for s in ("png", "svg")
    ]


def test_the_page_is_well_formed_and_needs_no_other_file(folder):
    found = Page((folder / "report.html").read_text())
    assert found.open == []
    assert found.counts["svg"] == found.counts["figure"] == len(FIGURES)
    assert "img" not in found.counts
    assert found.counts["tr"] == 6
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in found.sources)


def test_the_page_has_values_at_the_pointer_and_columns_to_sort_by(folder):
    text = (folder / "report.html").read_text()
    assert "<title>SVDP riemannian: mean 92.50 % (95 % interval" in text
    assert "aria-sort" in text
    assert "prefers-color-scheme: dark" in text


def test_names_are_escaped_in_the_page(folder):
    text = (folder / "report.html").read_text()
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in text
    assert "<title>a &lt;b&gt; &amp; c · sttp-riemann</title>" in text


def test_the_markdown_shows_the_figures_that_are_there(folder):
    text = (folder / "report.md").read_text()
    assert re.findall(r"\]\(figures/(\w+).png\)", text) == ["points", "steps", "singular_values"]
    assert text.startswith("# a &lt;b&gt; &amp; c\n\nwhat it is\n\n| method")


def test_a_run_is_a_line_for_programs(folder):
    lines = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert [(line["variant"], line["seed"]) for line in lines[:3]] == [
        ("dense", "0"), ("dense", "1"), ("SVDP riemannian", "0")
    ]  # fmt: skip
    assert float(lines[2]["test_accuracy"]) == pytest.approx(0.92)
    assert "chosen" not in lines[0]


def test_the_table_is_there_for_papers(folder):
    text = (folder / "table.tex").read_text()
    assert "SVDP riemannian & 2 & 92.50 ± 6.35 &" in text
    assert r"Z (\%)" in text


EVIL = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) `<b>` a | b </title><script>"


def test_nothing_of_a_recipe_or_a_machine_is_markup(tmp_path):
    runs = [result("sttp", seed=seed, environment={EVIL: EVIL}) for seed in (0, 1)]
    for run in runs:
        run["recipe"].update(teacher=f"{EVIL}{run['recipe']['seed']}", network_options={f"```\n{EVIL}": "````"})
    study_of(EVIL, EVIL, page(runs)).write(tmp_path)
    text = (tmp_path / "report.html").read_text()
    found = Page(text)
    assert found.open == []
    # One of the page's own, and the singular values in the figures
    assert found.counts["script"] == 1
    assert not {"img", "a", "b"} & set(found.counts)
    # As many columns in every row
    rows = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_a_block_of_code_ends_where_it_is_meant_to():
    assert fenced("a ```` b").splitlines() == ["`````yaml", "a ```` b", "`````"]


def test_no_markup_is_left_in_a_sentence():
    assert plain("a_b\n *c* | <d> `e` [f]") == r"a_b \*c\* \| &lt;d&gt; \`e\` \[f\]"


def test_the_columns_of_a_table_are_aligned(results):
    lines = str(study_of("name", "", page(results))).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1
    assert markdown_table(pd.DataFrame({"a": ["1"]})).splitlines()[1] == "|:--|"


def test_figures_are_not_written_through_a_link(results, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "figures").symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match="a link or a file is where a folder"):
        study_of("name", "", page(results)).write(tmp_path / "page")
    assert list((tmp_path / "victim").iterdir()) == []


def test_the_recipe_is_told_as_yaml_without_folders_of_this_machine():
    own = {"output": "/home/me/out", "data_root": "/home/me/data", "data": "folder:/home/me/cats"}
    text = recipe_text([result("sttp", **own, rank=r) for r in (2, 8)])
    assert "/home/me" not in text
    fields = yaml.safe_load(text)
    assert (fields["data"], fields["rank"]) == ("folder:cats", [2, 8])
    assert Recipe().changed(**{**fields, "rank": 2}).optimizer.lr == Recipe().optimizer.lr


def test_a_notebook_shows_table_findings_and_figures(results):
    text = study_of("a <b>", "", page(results))._repr_html_()
    assert "<h1>a &lt;b&gt;</h1>" in text
    assert text.count("<svg") == len(FIGURES)
    assert "too few seeds to tell" in text


def test_runs_are_found_at_any_depth_and_make_the_study_they_are_of(tmp_path):
    found = collect([store(curves(), tmp_path / "a" / "b")], "page")
    assert (len(found.table), found.name, found.skipped) == (18, "study", ())


def test_the_same_run_in_two_folders_counts_once(tmp_path):
    store([result("dense"), result("sttp"), result("sttp")], tmp_path)
    found = collect([tmp_path], "page")
    assert len(found.table) == 2
    assert found.skipped == (f"{tmp_path}/2 is the same run as {tmp_path}/1",)


def test_runs_of_several_recipes_have_the_pages_name(tmp_path):
    store([result("dense", name="one"), result("sttp", name="two")], tmp_path)
    found = collect([tmp_path], "page")
    assert (found.name, found.summary) == ("page", "runs of one, two")


def test_nothing_finished_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no finished run to report: .* holds no run"):
        collect([tmp_path], "page")


def test_an_environment_that_differs_is_told_in_full(tmp_path):
    runs = [result("dense"), result("sttp", environment={"torch": "3", "threads": 1})]
    assert "- torch: 2 or 3\n- threads: 1\n" in study_of("name", "", page(runs)).markdown()


def test_a_title_in_a_result_is_not_believed(tmp_path):
    folder = store([result("sttp")], tmp_path)
    path = folder / "0" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "label": "<script>"}))
    assert "<script>\nfor" in collect([folder], "page").html()
    assert collect([folder], "page").html().count("<script>") == 1
