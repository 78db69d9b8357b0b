from __future__ import annotations

import pytest

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.files import Lock
from sttp_riemann.lab.studies.ablation.run import ablate
from sttp_riemann.lab.studies.ablation.settings import Settings


def test_an_ablation_writes_a_page_with_every_variant_and_its_figures(tiny, tmp_path):
    recipe = tiny(methods=["dense", "svdp", "sttp"], seeds=[0, 1], steps=4, evaluate_every=2)
    settings = Settings(recipe, [2, 3], [1e-3, 1e-2], 5.0, {"width": 4, "depth": 1}, 3)
    page = ablate(settings, tmp_path / "runs", tmp_path / "page.md").read_text(encoding="utf-8")
    for variant in ("SVDP riemannian", "SVDP householder", "STTP riemannian", "STTP householder"):
        assert page.count(f"| {variant} ") == 4  # in both tables, at both ranks
    for name in ("rates", "differential"):
        assert (tmp_path / f"page-{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"page-{name}.png" in page
    assert len(list((tmp_path / "runs").glob("*/seed*/result.json"))) == 2 * 2 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"ranks": []}, "ranks must be"), ({"rates": [0.0]}, "rates must be"), ({"drift_steps": 0}, "drift_steps")],
)
def test_settings_that_measure_nothing_are_refused_by_name(tiny, changes, told):
    with pytest.raises(RecipeError, match=told):
        Settings(tiny(), **changes)


def test_a_page_that_is_no_markdown_file_is_refused_before_anything_runs(tiny, tmp_path):
    with pytest.raises(RecipeError, match=r"comparison\.md"):
        ablate(Settings(tiny()), tmp_path / "runs", tmp_path / "page.html")
    assert not (tmp_path / "runs").exists()


def test_a_second_ablation_in_a_folder_of_runs_is_refused(tiny, tmp_path):
    with Lock(tmp_path / "runs"), pytest.raises(CheckpointError, match="another run is in"):
        ablate(Settings(tiny()), tmp_path / "runs", tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_a_page_shows_what_a_recipe_says_and_no_html_of_it(tiny, tmp_path):
    recipe = tiny(methods=["sttp"], seeds=[0], steps=2, evaluate_every=2, name="`<b>x")
    settings = Settings(recipe, [2], [1e-3], 5.0, {"width": 4, "depth": 1}, 3)
    text = ablate(settings, tmp_path / "runs", tmp_path / "page.md", command=["ablate", "`<i>"]).read_text()
    assert "Written by `` sttp-riemann ablate '`<i>' ``. The recipe `` `<b>x ``" in text
