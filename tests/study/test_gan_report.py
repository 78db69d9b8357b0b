from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from sttp_riemann.study.compare import compare, plan
from sttp_riemann.study.gan_plots import gan_figures
from sttp_riemann.study.gan_results import gan_table, paper_name, read_records, tabulate_gan
from sttp_riemann.study.report import table_of
from sttp_riemann.training.errors import CheckpointError
from sttp_riemann.training.recipe import Recipe

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
    recipe = Recipe.from_dict(FIELDS)
    results, report = compare(recipe, folder)
    return recipe, results, report.parent


def test_every_method_spectrum_and_path_has_its_runs():
    runs = plan(Recipe.from_dict(FIELDS))
    assert [run.label for run in runs] == 2 * LABELS
    assert {run.label: (run.spectrum, run.penalty) for run in runs if run.low_rank} == {
        "sttp-c-riemannian": ("identity", "none"),
        "sttp-c-householder": ("identity", "none"),
        "sttp-r-riemannian": ("learned", "d_optimal"),
        "sttp-r-householder": ("learned", "d_optimal"),
    }


def test_the_table_has_the_papers_figures_beside_ours(study):
    recipe, results, folder = study
    head, *lines = gan_table(recipe, tabulate_gan(results, folder))
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
    recipe, results, folder = study
    assert len(table_of(recipe, results, folder).splitlines()) == 2 + len(LABELS)


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
    recipe = Recipe.from_dict({**FIELDS, "metrics": [], "methods": ["dense"], "spectra": [], "seeds": [0]})
    results, report = compare(recipe, tmp_path)
    drawn = gan_figures(tabulate_gan(results, tmp_path))
    assert all(png.startswith(b"\x89PNG") for _, png in drawn.values())
    assert "diversity" in report.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("label", "name"), [("sn", "SN"), ("sttp-r-householder", "STTP-R"), ("svdp-c-riemannian", "SVDP-C")]
)
def test_a_variant_has_the_papers_name(label, name):
    assert paper_name(label) == name
