from __future__ import annotations

import json

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.collect import collect
from sttp_riemann.lab.studies.report import write_report
from sttp_riemann.lab.studies.results import tabulate
from sttp_riemann.lab.training.loop import RESULT
from sttp_riemann.lab.training.recipe import Recipe
from tests.lab.studies.conftest import ranked, result


@pytest.fixture
def write(tmp_path):
    """Write a finished run into a folder of its own."""

    def write(where, run, **fields):
        folder = tmp_path / where
        folder.mkdir(parents=True)
        recipe = Recipe.from_dict(run["recipe"]).changed(**fields)
        if recipe.task == "gan":
            history = [{**row, "diversity": 1.0, "largest_spectral_norm": 1.0} for row in run["history"]]
            run = {**run, "history": history, "final": history[-1], "generator_ratio": 100.0}
        folder.joinpath(RESULT).write_text(json.dumps({**run, "recipe": recipe.to_dict()}))
        return folder

    return write


def labels(found):
    return [run["label"] for run in found.results]


def test_runs_of_a_study_are_found_at_any_depth_and_in_order(write, tmp_path, curves):
    for index, run in enumerate(reversed(curves)):
        write(f"study/{index}", run)
    found = collect([tmp_path / "study"], "page")
    ranks = [f"{m}-{f}-rank{r}" for m in ("svdp", "sttp") for f in ("riemannian", "householder") for r in (2, 8)]
    assert labels(found) == [label for label in ["dense", *ranks] for _ in range(2)]
    assert [run["recipe"]["seed"] for run in found.results[:2]] == [0, 1]
    assert found.recipe.study.ranks == {"svdp": [2, 8], "sttp": [2, 8]}
    assert (found.recipe.study.seeds, found.remarks, found.skipped) == ([0, 1], [], [])


def test_runs_of_one_rank_each_get_labels_that_tell_it(write):
    base = {"name": "point", "penalty": "none"}
    folders = [write(f"r{rank}", result("sttp"), rank=rank, **base, seeds=[rank]) for rank in (16, 4)]
    folders.append(write("dense", result("dense"), name="baseline", exclude=["conv1"], rank=3))
    found = collect(folders, "page")
    assert labels(found) == ["dense", "sttp-riemannian-rank4", "sttp-riemannian-rank16"]
    assert (found.recipe.name, found.recipe.summary) == ("page", "runs of baseline, point")
    assert (found.recipe.study.methods, found.recipe.study.paths) == (["dense", "sttp"], ["riemannian"])
    # What is excluded from compression, and at which rank, is nothing to a dense network
    assert found.remarks == []


def test_a_recipe_that_lacks_fields_has_them_at_their_defaults(write, tmp_path):
    folder = write("a", result("sttp"))
    run = json.loads((folder / RESULT).read_text())
    del run["recipe"]["network"]["frames"], run["recipe"]["network"]["method"]
    (folder / RESULT).write_text(json.dumps(run))
    (found,) = tabulate(collect([folder], "page").results)
    assert (found.method, found.frames) == ("sttp", "riemannian")


def test_one_rank_alone_is_not_told_in_the_label(write):
    assert labels(collect([write("a", result("sttp"), rank=4)], "page")) == ["sttp-riemannian"]


def test_a_folder_named_twice_counts_once(write, tmp_path):
    folder = write("study/a", result("sttp"))
    assert len(collect([folder, tmp_path / "study", folder / ".." / "a"], "page").results) == 1


def test_what_is_no_finished_run_is_left_out_by_name(write, tmp_path):
    write("study/good", result("sttp"))
    for name, file, text in [
        ("unfinished", "checkpoint-000000002.safetensors", ""),
        ("foreign", RESULT, "{}"),
        ("broken", RESULT, "{"),
        ("newer", RESULT, json.dumps({**result("dense"), "recipe": {"warp": 9}})),
        ("older", RESULT, json.dumps({**result("dense"), "recipe": {"lr": 0.1}})),
    ]:
        (tmp_path / "study" / name).mkdir()
        (tmp_path / "study" / name / file).write_text(text)
    (tmp_path / "empty").mkdir()
    found = collect([tmp_path / "study", tmp_path / "empty", tmp_path / "nowhere"], "page")
    assert labels(found) == ["sttp-riemannian"]
    told = " | ".join(found.skipped).replace(f"{tmp_path}/", "")
    assert "study/unfinished is not finished" in told
    assert "study/foreign/result.json is not of a run: it has no environment" in told
    assert "study/broken/result.json cannot be read" in told
    assert "study/newer is of a recipe that is not valid here: unknown recipe field 'warp'" in told
    assert "study/older is of a recipe that is not valid here: a recipe has 'lr' elsewhere" in told
    assert told.endswith("empty holds no run | nowhere is no folder")


def test_nothing_finished_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no finished run to report: .* holds no run"):
        collect([tmp_path], "page")


@pytest.mark.parametrize(
    "fields", [{"data": "cifar10"}, {"task": "gan"}, {"network_options": {"width": 3}}, {"image_size": 16}]
)
def test_runs_that_share_no_dense_network_are_refused(write, fields):
    folders = [write("a", result("dense")), write("b", result("sttp"), **fields)]
    (name,) = fields
    with pytest.raises(RecipeError, match=f"a and .*b cannot share a page: {name} is .*; report them apart"):
        collect(folders, "page")


def test_runs_of_two_recipes_are_not_taken_for_seeds_of_one(write):
    folders = [write("a", result("sttp")), write("b", result("sttp", seed=1), lr=0.5)]
    with pytest.raises(RecipeError, match=r"b would both be in the row 'STTP riemannian': lr is 0.001 and 0.5"):
        collect(folders, "page")


def test_the_same_seed_twice_is_refused(write):
    folders = [write("a", result("sttp")), write("b", result("sttp"))]
    with pytest.raises(RecipeError, match="b are the same run, STTP riemannian with seed 0: name one of them"):
        collect(folders, "page")


def test_ranks_by_layer_are_not_drawn_among_others(write):
    folders = [write("a", ranked("sttp", "riemannian", 8)), write("b", result("sttp", seed=1), rank={"*": 4})]
    with pytest.raises(RecipeError, match="has a rank for each layer"):
        collect(folders, "page")


def test_rows_that_differ_in_more_than_their_labels_say_are_told_of(write, tmp_path):
    folders = [write("a", result("dense"), lr=0.1), write("b", result("sttp"), lr=0.5, rank=4)]
    found = collect(folders, "page")
    assert found.remarks == ["The rows differ in lr: 0.1 in dense; 0.5 in STTP riemannian."]
    report = write_report(found.recipe, found.results, tmp_path / "page", found.remarks)
    assert "- The rows differ in lr" in report.with_suffix(".md").read_text()


def test_an_environment_that_differs_is_told_in_full(write, tmp_path):
    folders = [write("a", result("dense")), write("b", result("sttp", environment={"torch": "3", "threads": 1}))]
    found = collect(folders, "page")
    report = write_report(found.recipe, found.results, tmp_path / "page")
    assert "- torch: 2 or 3\n- threads: 1\n" in report.with_suffix(".md").read_text()


def test_the_papers_figures_go_with_the_rank(write):
    gan = {"task": "gan", "spectrum": "learned", "penalty": "d_optimal"}
    folders = [
        write(f"r{rank}", result("sttp"), **gan, rank=rank, paper=paper)
        for rank, paper in ((4, {"STTP-R": {"is": 7.0}}), (8, {}))
    ]
    found = collect(folders, "page")
    assert labels(found) == ["sttp-r-riemannian-rank4", "sttp-r-riemannian-rank8"]
    assert found.recipe.study.paper == {"STTP-R r=4": {"is": 7.0}}
