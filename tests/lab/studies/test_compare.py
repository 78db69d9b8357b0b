from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from sttp_riemann.errors import CheckpointError, DivergedError, RecipeError
from sttp_riemann.files import LOCK, Lock
from sttp_riemann.lab import recipes, verbs
from sttp_riemann.lab.studies.classify import CLASSIFY
from sttp_riemann.lab.studies.compare import compare, run_folder
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.studies.runs import find
from sttp_riemann.lab.studies.study import KINDS
from sttp_riemann.lab.training.loop import RESULT, Trainer
from sttp_riemann.lab.training.recipe import Recipe


def test_every_run_has_its_own_folder(tiny, tmp_path):
    runs = plan(tiny(ranks={"svdp": [1, 2], "sttp": [4]}, seeds=[0, 1]), {"lr": [0.1, 0.2]})
    assert len({run_folder(run, tmp_path) for run in runs}) == len(runs) == 2 * 2 * (1 + 2 * 2 + 2 * 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study of dense and STTP, with its recipe and folder."""
    from tests.conftest import TINY

    recipe = Recipe().changed(**{**TINY, "seeds": [0, 1], "methods": ["dense", "sttp"], "validation": 0.2})
    folder = tmp_path_factory.mktemp("study")
    return recipe, folder, compare(recipe, folder)


def test_a_comparison_gives_every_run_and_a_report(finished):
    _, folder, study = finished
    assert list(study.table.variant) == [
        name for name in ("dense", "STTP riemannian", "STTP householder") for _ in range(2)
    ]
    assert set(study.figures) == {"points", "steps", "singular_values"}
    assert study.folder == folder
    assert (folder / "report.html").exists()


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without figures, which take most of the time."""
    monkeypatch.setitem(KINDS, "classify", replace(CLASSIFY, figures=()))


def changed(finished, tmp_path, **changes):
    """The finished study in a folder of its own, to go on with; which runs are made of it."""
    recipe, folder, _ = finished
    shutil.copytree(folder, tmp_path / "study")
    made = []
    with pytest.MonkeyPatch.context() as patch:
        run = Trainer.run
        patch.setattr(Trainer, "run", lambda self: made.append(self.recipe) or run(self))
        patch.setitem(KINDS, "classify", replace(CLASSIFY, figures=()))
        sweep = changes.pop("sweep", None)
        study = compare(recipe.changed(**changes), tmp_path / "study", sweep=sweep)
    return study, made


def test_what_is_finished_is_not_done_again(finished, tmp_path):
    study, made = changed(finished, tmp_path)
    assert made == []
    assert study.table.equals(finished[2].table)


def test_another_seed_trains_only_itself_and_all_are_reported(finished, tmp_path):
    study, made = changed(finished, tmp_path, seeds=[2])
    assert [(run.network.method, run.seed) for run in made] == [("dense", 2), ("sttp", 2), ("sttp", 2)]
    assert sorted(set(study.table.seed)) == [0, 1, 2]
    assert len(study.table) == 9


def test_ranks_that_are_added_train_only_themselves(finished, tmp_path):
    study, made = changed(finished, tmp_path, ranks={"sttp": [2, 4]}, seeds=[0])
    assert {(run.network.method, run.network.rank) for run in made} == {("sttp", 2)}
    assert study.page.ranked
    assert len(study.table) == 8


def test_rates_that_are_added_train_only_themselves_and_the_best_is_chosen(finished, tmp_path):
    study, made = changed(finished, tmp_path, methods=["dense"], seeds=[0, 1], sweep={"lr": [1e-2, 1e-5]})
    assert [run.optimizer.lr for run in made] == [1e-5, 1e-5]
    dense = study.table[study.table.variant == "dense"]
    best = dense.groupby("rate").validation_accuracy.mean().idxmax()
    assert set(dense[dense.chosen].rate) == {best}
    assert "chosen" in (tmp_path / "study" / "results.csv").read_text()


def test_runs_that_cannot_share_a_page_are_refused_before_any_has_run(finished, tmp_path):
    recipe, folder, _ = finished
    with pytest.raises(RecipeError, match=r"cannot share a page: network_options"):
        compare(recipe.changed(network_options={"width": 4, "depth": 1}), folder)


def test_values_that_cannot_share_a_page_are_refused_before_any_has_run(tiny, tmp_path, no_step):
    with pytest.raises(RecipeError, match="cannot share a page: validation is"):
        compare(tiny(), tmp_path, sweep={"validation": [0.1, 0.2]})


def timeless(study):
    return study.table.drop(columns="step_ms")


def test_results_are_the_same_for_any_number_of_workers(tiny, tmp_path, undrawn):
    recipe = tiny(seeds=[0], paths=["riemannian"], methods=["dense", "sttp"])
    alone = compare(recipe, tmp_path / "alone")
    shared = compare(recipe, tmp_path / "shared", workers=2)
    assert timeless(shared).equals(timeless(alone))
    assert [r["history"] for r in shared.results] == [r["history"] for r in alone.results]


def test_a_variant_that_cannot_be_built_is_told_of_before_any_has_run(tiny, tmp_path):
    with pytest.raises(RecipeError, match="conv9"):
        compare(tiny(exclude=["conv9"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_ends_a_study_unless_rates_are_swept(tiny, tmp_path, undrawn):
    fields = {"methods": ["dense"], "optimizer": "sgd", "decay": "none", "steps": 20, "seeds": [0], "validation": 0.2}
    with pytest.raises(DivergedError):
        compare(tiny(**fields, lr=1e30), tmp_path / "one")
    study = compare(tiny(**fields), tmp_path / "two", sweep={"lr": [1e-2, 1e30]})
    assert list(study.table.rate) == [1e-2]


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


@pytest.mark.parametrize("name", ["report.md", "report.html", "results.csv", "table.tex"])
def test_a_report_that_could_not_be_written_is_told_of_at_the_start(name, tiny, tmp_path, no_step):
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=f"{name} cannot be written"):
        compare(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_that_cannot_be_made_is_told_of_at_the_start(tiny, tmp_path, no_step):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/study/results.csv cannot be written"):
        compare(tiny(), tmp_path / "file" / "study")


@pytest.mark.parametrize("link", ["figures", "VARIANT", "VARIANT/seed0"])
def test_links_to_elsewhere_are_refused_at_the_start(link, tiny, tmp_path, no_step):
    recipe = tiny(seeds=[0], methods=["sttp"])
    link = link.replace("VARIANT", run_folder(plan(recipe)[0], tmp_path).parent.name)
    (tmp_path / "victim").mkdir()
    path = tmp_path / "study" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match=f"{link} is a link"):
        compare(recipe, tmp_path / "study")
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


def test_a_finished_run_that_was_moved_is_found_by_its_recipe(finished, tmp_path):
    recipe, folder, _ = finished
    shutil.copytree(folder, tmp_path / "moved")
    old = run_folder(plan(recipe)[0], tmp_path / "moved").parent
    old.rename(old.with_name("anything"))
    study, made = changed((recipe, tmp_path / "moved", None), tmp_path)
    assert made == []
    assert "anything/seed0" in list(study.table.run)


@pytest.mark.slow
def test_the_shipped_recipe_brings_every_method_to_95_percent(tmp_path):
    table = compare(Recipe.from_dict(recipes.read("digits")), tmp_path).table
    assert len(table) == 15
    assert table.test_accuracy.min() >= 0.95
    assert table.orthogonality_error.max() < 1e-5


def test_runs_that_an_archive_holds_are_not_trained_again(finished, tmp_path):
    recipe, folder, _ = finished
    kept = tmp_path / "kept"
    verbs.report([folder], output=kept)
    before = len(find([kept])[0])
    study, made = changed((recipe, kept, None), tmp_path, methods=["dense"], seeds=[0, 1, 7])
    assert [run.seed for run in made] == [7]
    assert len(study.results) == before + 1
