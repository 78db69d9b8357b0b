from __future__ import annotations

import json

import pytest

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.files import LOCK, Lock
from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.compare import compare, finish, plan, run_folder
from sttp_riemann.lab.training.loop import RESULT, Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints


def test_dense_runs_once_a_seed_and_the_others_on_every_path(tiny):
    runs = [(run.label, run.seed) for run in plan(tiny(seeds=[3, 5]))]
    labels = ["dense", "svdp-riemannian", "svdp-householder", "sttp-riemannian", "sttp-householder"]
    assert runs == [(label, seed) for seed in (3, 5) for label in labels]


def test_every_low_rank_method_runs_at_every_rank_on_every_path(tiny):
    runs = plan(tiny(seeds=[0], ranks={"svdp": [1, 2], "sttp": [0.5]}))
    assert [(run.label, run.network.rank) for run in runs[1:]] == [
        ("svdp-riemannian-rank1", 1), ("svdp-riemannian-rank2", 2),
        ("svdp-householder-rank1", 1), ("svdp-householder-rank2", 2),
        ("sttp-riemannian-rank0.5", 0.5), ("sttp-householder-rank0.5", 0.5),
    ]  # fmt: skip
    assert runs[0].label == "dense"


def test_a_method_without_ranks_runs_at_the_recipes_own(tiny):
    runs = plan(tiny(seeds=[0], paths=["riemannian"], ranks={"sttp": [2]}))
    assert [(run.label, run.network.rank) for run in runs[1:]] == [("svdp-riemannian", 4), ("sttp-riemannian-rank2", 2)]


def test_runs_of_every_rank_have_their_own_folders(tiny, tmp_path):
    runs = plan(tiny(ranks={"svdp": [1, 2, 4], "sttp": [2, 4, 8, 16]}))
    assert len({run_folder(run, tmp_path) for run in runs}) == len(runs) == 3 * (1 + 2 * 3 + 2 * 4)


def test_every_run_has_its_own_folder(tiny, tmp_path):
    runs = plan(tiny())
    assert len({run_folder(run, tmp_path) for run in runs}) == len(runs) == 15


def test_a_comparison_gives_every_result_and_a_report(tiny, tmp_path):
    results, report = compare(tiny(seeds=[0, 1], methods=["dense", "sttp"]), tmp_path)
    assert [r["label"] for r in results] == ["dense", "sttp-riemannian", "sttp-householder"] * 2
    assert report == tmp_path / "report.html"
    assert report.exists()


def test_what_is_finished_is_not_done_again(tiny, tmp_path, monkeypatch):
    recipe = tiny(seeds=[0], methods=["sttp"])
    first, _ = compare(recipe, tmp_path)
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("ran again"))
    assert compare(recipe, tmp_path)[0] == first


def timeless(run):
    kept = {name: value for name, value in run.items() if name not in ("median_step_ms", "folder")}
    return {**kept, "folder": run["folder"].parts[-2:]}


def test_results_are_the_same_for_any_number_of_workers(tiny, tmp_path):
    recipe = tiny(seeds=[0], paths=["riemannian"], ranks={"sttp": [2, 4]}, methods=["dense", "sttp"])
    alone, _ = compare(recipe, tmp_path / "alone")
    shared, report = compare(recipe, tmp_path / "shared", workers=2)
    assert [timeless(run) for run in shared] == [timeless(run) for run in alone]
    assert report.exists()


def test_a_run_that_was_cut_off_goes_on(tiny, tmp_path):
    recipe = tiny()
    whole = finish(recipe, tmp_path)
    (tmp_path / RESULT).unlink()
    assert finish(recipe, tmp_path)["history"] == whole["history"]
    assert len(checkpoints(tmp_path)) == 1


def test_finished_runs_of_another_recipe_are_not_taken_for_this_ones(tiny, tmp_path):
    finish(tiny(), tmp_path)
    with pytest.raises(CheckpointError, match="a run of another recipe"):
        finish(tiny(lr=0.5), tmp_path)


def test_finished_runs_of_another_version_are_not_taken_for_this_ones(tiny, tmp_path):
    finish(tiny(), tmp_path)
    result = json.loads((tmp_path / RESULT).read_text())
    result["environment"]["sttp_riemann"] = "0.0"
    (tmp_path / RESULT).write_text(json.dumps(result))
    with pytest.raises(CheckpointError, match=r"a run of version 0.0 and this is"):
        finish(tiny(), tmp_path)


def test_a_variant_that_cannot_be_built_is_told_of_before_any_has_run(tiny, tmp_path):
    with pytest.raises(RecipeError, match="conv9"):
        compare(tiny(exclude=["conv9"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_step(monkeypatch):
    monkeypatch.setattr(Trainer, "_step", lambda self: pytest.fail("a step was run"))


def test_a_second_comparison_in_a_folder_is_refused_at_the_start(tiny, tmp_path, no_step):
    with Lock(tmp_path), pytest.raises(CheckpointError, match=r"another run is in .*: wait for its end"):
        compare(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_comparison_is_refused_where_another_is_in_one_of_its_runs(tiny, tmp_path, no_step):
    recipe = tiny(seeds=[0], methods=["sttp"])
    with Lock(run_folder(plan(recipe)[0], tmp_path)), pytest.raises(CheckpointError, match="another run is in"):
        compare(recipe, tmp_path)


@pytest.mark.parametrize("name", ["report.md", "report.html", "results.csv"])
def test_a_report_that_could_not_be_written_is_told_of_at_the_start(name, tiny, tmp_path, no_step):
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=f"{name} cannot be written"):
        compare(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_that_cannot_be_made_is_told_of_at_the_start(tiny, tmp_path, no_step):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/study/results.csv cannot be written"):
        compare(tiny(), tmp_path / "file" / "study")


@pytest.mark.parametrize("link", ["figures", "sttp-riemannian", "sttp-riemannian/seed0"])
def test_links_to_elsewhere_are_refused_at_the_start(link, tiny, tmp_path, no_step):
    (tmp_path / "victim").mkdir()
    path = tmp_path / "study" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match=f"{link} is a link"):
        compare(tiny(seeds=[0], methods=["sttp"]), tmp_path / "study")
    assert list((tmp_path / "victim").iterdir()) == []


def test_the_folder_of_a_comparison_may_itself_be_a_link(tiny, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "study").symlink_to(tmp_path / "disk")
    compare(tiny(seeds=[0], methods=["dense"], steps=3), tmp_path / "study")
    assert (tmp_path / "disk" / "figures").is_dir()


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"recipe": {}}'])
def test_a_result_that_is_none_is_refused_in_one_line(content, tiny, tmp_path):
    recipe = tiny(seeds=[0], methods=["sttp"])
    folder = run_folder(plan(recipe)[0], tmp_path)
    folder.mkdir(parents=True)
    (folder / RESULT).write_text(content)
    with pytest.raises(CheckpointError, match=r"result.json (is not of a run|cannot be read)"):
        compare(recipe, tmp_path)


def test_a_label_in_a_result_is_not_believed(tiny, tmp_path):
    recipe = tiny(seeds=[0], methods=["sttp"], paths=["riemannian"])
    compare(recipe, tmp_path)
    path = run_folder(plan(recipe)[0], tmp_path) / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), "label": "<script>"}))
    (result,), report = compare(recipe, tmp_path)
    assert result["label"] == "sttp-riemannian"
    assert "script" not in report.read_text() + report.with_suffix(".md").read_text()


@pytest.mark.slow
def test_the_shipped_recipe_brings_every_method_to_95_percent(tmp_path):
    results, _ = compare(Recipe.from_dict(recipes.read("digits")), tmp_path)
    assert len(results) == 15
    assert min(r["final"]["test_accuracy"] for r in results) >= 0.95
    assert max(r["largest_orthogonality_error"] for r in results) < 1e-5
