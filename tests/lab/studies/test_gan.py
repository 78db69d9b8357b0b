from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab import verbs
from sttp_riemann.lab.studies.compare import compare
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.studies.records import read_records
from sttp_riemann.lab.studies.study import collect
from sttp_riemann.lab.training.recipe import Recipe

FIELDS = {
    "name": "tiny-gan",
    "task": "gan",
    "network": "sngan8_discriminator",
    "network_options": {"width": 8},
    "generator": "sngan8_generator",
    "generator_options": {"width": 8, "latent_dim": 4},
    "methods": ["dense", "sn", "sttp"],
    "spectra": ["R"],
    "seeds": [0, 1],
    "rank": 2,
    "generator_method": "follow",
    "betas": [0.0, 0.9],
    "batch_size": 8,
    "discriminator_steps": 1,
    "steps": 4,
    "evaluate_every": 2,
    "metrics": ["fid", "kid"],
    "extractor": "digits",
    "metric_samples": 64,
    "kid_subset_size": 32,
    "kid_subsets": 3,
    "paper": {"SN": {"fid": 18.38, "kid": 0.0125}, "STTP-R": {"fid": 18.43}},
    "device": "cpu",
    "threads": 1,
}
PATHS = ("riemannian", "householder")
TITLES = ["dense", "SN", *(f"STTP-R {path}" for path in PATHS)]


@pytest.fixture(scope="module")
def study(tmp_path_factory, digits_cache):
    return compare(Recipe().changed(**FIELDS), tmp_path_factory.mktemp("study"))


def test_every_method_spectrum_and_path_has_its_runs():
    runs = plan(Recipe().changed(**{**FIELDS, "spectra": ["C", "R"]}))
    assert len(runs) == 2 * (1 + 1 + 2 * 2)
    assert {(run.network.spectrum, run.network.penalty) for run in runs if run.network.low_rank} == {
        ("identity", "none"), ("learned", "d_optimal")
    }  # fmt: skip


def test_the_table_has_the_papers_figures_beside_ours(study):
    table = study.page.summary()
    assert list(table.columns[:5]) == ["method", "seeds", "FID", "paper's FID", "KID x100"]
    assert list(table.method) == TITLES
    assert list(table["paper's FID"]) == ["–", "18.38", "18.43", "18.43"]
    assert list(table["paper's KID x100"]) == ["–", "1.25", "–", "–"]
    assert list(table["Z of G (%)"][:2]) == ["100.00", "100.00"]
    assert float(table["Z of G (%)"][2]) < 100
    assert all(" ± " in cell for cell in table["FID"])


def test_a_study_of_generators_has_their_names_figures_and_compression(tmp_path, digits_cache):
    changes = {"player": "generator", "methods": ["sttp"], "ranks": {"sttp": [1, 2]}, "seeds": [0], "method": "svdp"}
    paper = {"G STTP-R r=2": {"fid": 22.06}, "STTP-R r=2": {"fid": 1.0}, "SVDP-R r=2": {"fid": 2.0}}
    found = compare(Recipe().changed(**{**FIELDS, **changes, "paper": paper}), tmp_path)
    table = found.page.summary()
    assert list(table.method) == [f"G STTP-R {path} r={rank}" for path in PATHS for rank in (1, 2)]
    assert list(table["paper's FID"]) == ["–", "22.06"] * 2
    # The discriminator is the same in all
    assert len(set(table["Z (%)"])) == 1
    ratios = [float(z) for z in table["Z of G (%)"]]
    assert ratios[0] == ratios[2] < ratios[1] == ratios[3]
    assert found.page.size.column == "generator_ratio"
    axes = found.figures["compression"].axes[0]
    assert axes.get_xlabel() == "Z of G (%)"
    assert axes.get_xlim()[0] < ratios[0] < ratios[1] < axes.get_xlim()[1]
    again = compare(Recipe().changed(**{**FIELDS, **changes, "paper": paper}), tmp_path)
    assert len(again.results) == 4


def test_runs_whose_generators_are_compared_share_no_page_with_others(study, tmp_path, digits_cache):
    changes = {"player": "generator", "methods": ["sttp"], "seeds": [0], "paths": ["riemannian"]}
    compare(Recipe().changed(**{**FIELDS, **changes}), tmp_path)
    with pytest.raises(RecipeError, match="cannot share a page: player is"):
        collect([study.folder, tmp_path], "both")


def test_the_terminal_shows_the_same_table(study):
    assert len(str(study).splitlines()) == 2 + len(TITLES)


def test_every_run_is_a_line_for_programs(study):
    lines = list(csv.DictReader(io.StringIO((study.folder / "results.csv").read_text())))
    assert [(line["variant"], line["seed"]) for line in lines] == [(name, str(s)) for name in TITLES for s in (0, 1)]
    for line, result in zip(lines, study.results, strict=True):
        assert float(line["fid"]) == pytest.approx(result["final"]["fid"], rel=1e-5)


def test_the_report_has_all_its_figures(study):
    names = ["points", "metrics", "stability", "singular_values", "samples", "interpolations"]
    assert list(study.figures) == names
    assert {path.stem for path in (study.folder / "figures").iterdir()} == set(names)
    assert (study.folder / "report.html").read_text().count("<svg") == len(names)


def test_the_report_compares_fid_and_tells_of_collapse(study):
    text = (study.folder / "report.md").read_text()
    assert "STTP-R riemannian against STTP-R householder: too few seeds to tell whether FID differs" in text
    assert "compare the rows of this table and nothing else" in text
    assert re.search(r"dense, seed 0, collapsed: step 2|finds no collapse|runs collapsed", text)


def test_records_have_what_the_figures_need(study):
    result = study.page.first("SN")
    records = read_records(result)
    assert [record["step"] for record in records] == [2, 4]
    layers = records[0]["layers"]
    assert {"spectral_norm", "trained_norm", "stable_rank", "top", "gradient_norm"} == set(layers["linear"])
    assert any(layer["trained_norm"] != layer["spectral_norm"] for layer in layers.values())
    assert len(records[0]["outputs"]["real"]) == 32
    assert records[-1]["figures"]["fid"] == result["history"][-1]["fid"]


def test_a_damaged_record_is_refused_by_name(tmp_path):
    path = tmp_path / "stability" / "000000001.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"000000001\.json cannot be read: delete"):
        read_records({"folder": tmp_path, "final": {"step": 1}})


def test_an_archive_has_the_records_of_its_runs_but_no_images(study, tmp_path):
    verbs.report([study.folder], output=tmp_path / "kept")
    again = verbs.report([tmp_path / "kept"], output=tmp_path / "again")
    tables = [found.page.table.drop(columns="run") for found in (again, study)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)
    assert list(again.figures) == ["points", "metrics", "stability", "singular_values"]
    assert len(again.figures["stability"].axes[0].lines) == len(study.figures["stability"].axes[0].lines) > 0


def test_a_run_whose_records_are_gone_is_not_said_to_be_without_collapse(tmp_path):
    with pytest.raises(CheckpointError, match="has no record of its evaluations: delete"):
        read_records({"folder": tmp_path, "final": {"step": 1}})
    with pytest.raises(CheckpointError, match=r"the archived records of .* restore the archive"):
        read_records({"folder": tmp_path, "final": {"step": 1}, "records": [{"step": 1}]})


def test_a_run_without_metrics_has_figures_all_the_same(tmp_path):
    recipe = Recipe().changed(**{**FIELDS, "metrics": [], "methods": ["dense"], "spectra": [], "seeds": [0]})
    study = compare(recipe, tmp_path)
    assert len(study.figures) == 6
    assert study.page.primary.column == "diversity"


@pytest.fixture(scope="module")
def ranked(tmp_path_factory, digits_cache):
    changes = {"methods": ["sn", "sttp"], "spectra": [], "seeds": [0], "ranks": {"sttp": [2, 4]}}
    paper = {"STTP-C r=4": {"fid": 9.0}}
    recipe = Recipe().changed(**{**FIELDS, **changes, "steps": 2, "spectrum": "identity", "paper": paper})
    return compare(recipe, tmp_path_factory.mktemp("ranks"))


def test_several_ranks_make_a_figure_over_compression(ranked):
    first, *others = ranked.drawings
    assert first.name == "compression"
    seen = [axes.get_ylabel() for axes in first.figure.axes if axes.get_visible()]
    assert seen == ["FID", "KID x100", "diversity", "step (ms)"]
    assert all("Of several ranks only the largest is drawn." in drawing.caption for drawing in others)


def test_curves_are_compared_at_the_same_size(ranked):
    told = "STTP-C riemannian against STTP-C householder at equal Z ("
    assert any(sentence.startswith(told) for sentence in ranked.findings)


def test_the_papers_figure_of_a_rank_is_beside_that_rank(ranked):
    table = ranked.page.summary()
    assert dict(zip(table.method, table["paper's FID"], strict=True)) == {
        "SN": "–", "STTP-C riemannian r=2": "–", "STTP-C riemannian r=4": "9.00",
        "STTP-C householder r=2": "–", "STTP-C householder r=4": "9.00",
    }  # fmt: skip


def test_finished_runs_of_a_gan_make_the_same_report(ranked, tmp_path):
    collect([ranked.folder], "page").write(tmp_path)
    assert (tmp_path / "results.csv").read_text() == (ranked.folder / "results.csv").read_text()


def with_collapses(study, counts):
    """The page of a study, with so many of its runs collapsed by title."""
    table = study.page.table.copy()
    table["collapsed"] = [
        float(list(rows.index).index(index) < counts[title])
        for title, rows in table.groupby("variant", sort=False)
        for index in rows.index
    ]
    return replace(study.page, table=table)


def test_collapses_are_counted_with_the_interval_of_their_share(study, monkeypatch):
    monkeypatch.setattr("sttp_riemann.lab.studies.gan.NAMED", 0)
    page = with_collapses(study, dict(zip(TITLES, (2, 1, 0, 0), strict=True)))
    told = " ".join(page.kind.facts(page))
    assert "2 of 2 (16 to 100 %) of dense; 1 of 2 (1 to 99 %) of SN; 0 of 2 (0 to 84 %) of STTP-R riemannian, " in told
    assert "0 of 3 comparisons show a difference" in told
    assert "collapsed: step" not in told
    assert list(page.summary().collapsed) == ["2 of 2", "1 of 2", "0 of 2", "0 of 2"]


def test_a_difference_in_how_many_collapse_is_named_with_its_corrected_p(study):
    # As of 6 seeds: 12 rows, of which those of dense collapse
    table = pd.concat([study.page.table] * 3, ignore_index=True)
    table["collapsed"] = (table.variant == "dense").astype(float)
    page = replace(study.page, table=table, results=[*study.results] * 3)
    told = page.kind.facts(page)
    assert any("3 of 3 comparisons show a difference" in s and "SN from dense (p = 0.0065)" in s for s in told)


def test_no_collapse_is_said_to_be_none(study):
    assert "The detector finds no collapse in any run." in study.page.kind.facts(
        with_collapses(study, dict.fromkeys(TITLES, 0))
    )
