from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from sttp_riemann.errors import CheckpointError
from sttp_riemann.lab.studies.collect import collect
from sttp_riemann.lab.studies.compare import compare, plan
from sttp_riemann.lab.studies.gan_findings import gan_findings
from sttp_riemann.lab.studies.gan_plots import gan_figures, over_compression
from sttp_riemann.lab.studies.gan_results import gan_table, read_records, tabulate_gan
from sttp_riemann.lab.studies.report import table_of, write_report
from sttp_riemann.lab.training.recipe import Recipe

FIELDS = {
    "name": "tiny-gan",
    "task": "gan",
    "network": "sngan8_discriminator",
    "network_options": {"width": 8},
    "generator": "sngan8_generator",
    "generator_options": {"width": 8, "latent_dim": 4},
    "methods": ["dense", "sn", "sttp"],
    "spectra": ["C", "R"],
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
LABELS = ["dense", "sn", *(f"sttp-{letter}-{path}" for letter in "cr" for path in ("riemannian", "householder"))]


@pytest.fixture(scope="module")
def study(tmp_path_factory, digits_cache):
    folder = tmp_path_factory.mktemp("study")
    recipe = Recipe().changed(**FIELDS)
    results, report = compare(recipe, folder)
    return recipe, results, report.parent


def test_every_method_spectrum_and_path_has_its_runs():
    runs = plan(Recipe().changed(**FIELDS))
    assert [run.label for run in runs] == 2 * LABELS
    assert {run.label: (run.network.spectrum, run.network.penalty) for run in runs if run.network.low_rank} == {
        "sttp-c-riemannian": ("identity", "none"),
        "sttp-c-householder": ("identity", "none"),
        "sttp-r-riemannian": ("learned", "d_optimal"),
        "sttp-r-householder": ("learned", "d_optimal"),
    }


def test_the_table_has_the_papers_figures_beside_ours(study):
    recipe, results, _ = study
    head, *lines = gan_table(recipe, tabulate_gan(results))
    assert head[:5] == ["method", "FID", "KID x100", "diversity", "paper's FID"]
    column = {name: [line[i] for line in lines] for i, name in enumerate(head)}
    assert column["method"] == [
        "dense", "SN", "STTP-C riemannian", "STTP-C householder", "STTP-R riemannian", "STTP-R householder"
    ]  # fmt: skip
    assert column["paper's FID"] == ["–", "18.38", "–", "–", "18.43", "18.43"]
    assert column["paper's KID x100"] == ["–", "1.25", "–", "–", "–", "–"]
    assert column["Z of G (%)"][:2] == ["100.00", "100.00"]
    assert float(column["Z of G (%)"][2]) < 100
    assert all(" ± " in cell for cell in column["FID"])


def test_the_terminal_shows_the_same_table(study):
    recipe, results, _ = study
    assert len(table_of(recipe, results).splitlines()) == 2 + len(LABELS)


def test_every_run_is_a_line_for_programs(study):
    _, results, folder = study
    lines = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert [(line["label"], line["seed"]) for line in lines] == [(name, str(s)) for name in LABELS for s in (0, 1)]
    by_run = {(r["label"], str(r["recipe"]["seed"])): r["final"]["fid"] for r in results}
    for line in lines:
        assert float(line["fid"]) == pytest.approx(by_run[line["label"], line["seed"]], rel=1e-5)


def test_the_report_has_all_its_figures(study):
    _, _, folder = study
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures == {"metrics", "stability", "outputs", "singular_values", "samples", "interpolations"}
    assert (folder / "report.html").read_text().count("data:image/png") == len(figures)


def test_the_report_tells_of_frames_and_of_collapse(study):
    _, _, folder = study
    text = (folder / "report.md").read_text()
    assert "STTP-C riemannian and STTP-C householder differ in FID by" in text
    assert "collapse" in text
    assert "compare the rows of this table and nothing else" in text


def test_records_have_what_the_figures_need(study):
    _, results, folder = study
    records = read_records(folder / "sn" / "seed0")
    assert [record["step"] for record in records] == [2, 4]
    layers = records[0]["layers"]
    assert {"spectral_norm", "trained_norm", "stable_rank", "top", "gradient_norm"} == set(layers["linear"])
    assert any(layer["trained_norm"] != layer["spectral_norm"] for layer in layers.values())
    assert len(records[0]["outputs"]["real"]) == 32
    history = next(r for r in results if r["label"] == "sn")["history"]
    assert records[-1]["figures"]["fid"] == history[-1]["fid"]


def test_a_damaged_record_is_refused_by_name(tmp_path):
    path: Path = tmp_path / "stability" / "000000001.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"000000001\.json cannot be read: delete"):
        read_records(tmp_path)


def test_a_run_without_metrics_has_figures_all_the_same(tmp_path):
    recipe = Recipe().changed(**{**FIELDS, "metrics": [], "methods": ["dense"], "spectra": [], "seeds": [0]})
    results, report = compare(recipe, tmp_path)
    drawn = gan_figures(tabulate_gan(results))
    assert all(png.startswith(b"\x89PNG") for _, png in drawn.values())
    assert "diversity" in report.with_suffix(".md").read_text()


@pytest.fixture(scope="module")
def ranked(tmp_path_factory, digits_cache):
    folder = tmp_path_factory.mktemp("ranks")
    changes = {"methods": ["sn", "sttp"], "spectra": [], "seeds": [0], "ranks": {"sttp": [2, 4]}}
    paper = {"STTP-C r=4": {"fid": 9.0}}
    recipe = Recipe().changed(**{**FIELDS, **changes, "steps": 2, "spectrum": "identity", "paper": paper})
    results, report = compare(recipe, folder)
    return recipe, results, report.parent


def test_several_ranks_make_a_figure_over_compression(ranked):
    _, results, folder = ranked
    first, *others = gan_figures(tabulate_gan(results)).items()
    name, (caption, png) = first
    assert name == "compression"
    assert "each point with its rank" in caption
    assert png.startswith(b"\x89PNG")
    assert all("Of each method and path only the largest rank." in caption for _, (caption, _) in others)
    assert (folder / "figures" / "compression.png").read_bytes() == png


def test_the_figure_has_a_panel_for_each_metric_and_network_and_a_curve_for_each_path(ranked):
    _, results, _ = ranked
    figure = over_compression(tabulate_gan(results))
    seen = [axes for axes in figure.axes if axes.get_visible()]
    assert [(axes.get_xlabel(), axes.get_ylabel().split(" (")[0]) for axes in seen] == [
        (f"Z of {part} (%)", name) for part in "DG" for name in ("FID", "KID x100", "diversity")
    ]
    for axes in seen:
        assert [c.get_label() for c in axes.containers] == ["STTP-C riemannian", "STTP-C householder"]
        assert next(line.get_label() for line in axes.lines if line.get_linestyle() == "--") == "SN"


def test_findings_of_several_ranks_are_told_by_curve(ranked):
    recipe, results, _ = ranked
    sentences = gan_findings(recipe, tabulate_gan(results))
    assert sentences[0].startswith("STTP-C riemannian: FID goes from ")
    assert sentences[2].startswith("STTP-C, both paths: with a single seed")


def test_many_collapses_are_counted(study):
    recipe, results, _ = study
    rows = tabulate_gan(results)
    assert sum(len(row.collapsed) for row in rows) == 12
    few, many = (" ".join(gan_findings(recipe, given)) for given in (rows[:2], rows + rows[:1]))
    assert "dense, seed 0, collapsed: step" in few
    assert "14 of 14 runs collapsed" in many
    assert "seed 0, collapsed" not in many


def test_the_papers_figure_of_a_rank_is_beside_that_rank(ranked):
    recipe, results, _ = ranked
    head, *lines = gan_table(recipe, tabulate_gan(results))
    column = head.index("paper's FID")
    assert {line[0]: line[column] for line in lines if line[column] != "–"} == {
        "STTP-C riemannian r=4": "9.00", "STTP-C householder r=4": "9.00"
    }  # fmt: skip


def test_finished_runs_of_a_gan_make_the_same_report(ranked, tmp_path):
    _, _, folder = ranked
    found = collect([folder], "page")
    assert found.recipe.study.paper == {"STTP-C r=4": {"fid": 9.0}}
    report = write_report(found.recipe, found.results, tmp_path)
    assert (tmp_path / "results.csv").read_text() == (folder / "results.csv").read_text()
    assert len(list((report.parent / "figures").iterdir())) == 7
