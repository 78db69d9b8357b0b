from __future__ import annotations

import json

import pytest

from sttp_riemann.errors import LONGEST, CheckpointError
from sttp_riemann.lab.studies.runs import find, finish, read_result, recipe_of
from sttp_riemann.lab.studies.variant import bearing
from sttp_riemann.lab.training.loop import RESULT
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints
from tests.lab.studies.conftest import result, store, stored


def plain(run):
    return json.loads(json.dumps(stored(run)))


def test_a_run_that_has_not_ended_has_no_result(tmp_path):
    assert read_result(tmp_path) is None


def test_a_result_reads_back(tmp_path):
    (tmp_path / RESULT).write_text(json.dumps(plain(result("sttp"))))
    assert read_result(tmp_path) == {**plain(result("sttp")), "folder": tmp_path}


@pytest.mark.parametrize("text", ["{", "[" * 10**5, '{"a": 1, "a": 1}', "\xff"])
def test_a_broken_result_is_refused_by_name(text, tmp_path):
    (tmp_path / RESULT).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"result.json cannot be read: delete it") as error:
        read_result(tmp_path)
    assert len(str(error.value)) <= LONGEST


def wrong(*path: str | int, value: object) -> dict:
    """A result in which one value is another."""
    whole = plain(result("sttp"))
    inner = whole
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it has no environment"),
        ([1], "it is not a mapping"),
        (3, "it is not a mapping"),
        (wrong("recipe", value=[]), "recipe is not a mapping"),
        (wrong("environment", value="x"), "environment is not a mapping"),
        (wrong("history", value={}), "history is not a list"),
        (wrong("history", value=[]), "it has an empty history"),
        (wrong("history", 0, value=7), "an item of history is not a mapping"),
        (wrong("history", 0, "train_loss", value="x"), "train_loss is not a number"),
        (wrong("final", value={"step": 3}), "final has no test_accuracy"),
        (wrong("final", "test_accuracy", value="0.9"), "test_accuracy is not a number"),
        (wrong("final", "validation_accuracy", value="0.9"), "validation_accuracy is not a number"),
        (wrong("median_step_ms", value=None), "median_step_ms is not a number"),
        (wrong("singular_values", "conv", value=[[1]]), "an item of conv is not a number"),
        (wrong("recipe", "task", value="gan"), "final has no diversity"),
    ],
)
def test_a_result_of_wrong_types_is_refused_by_name(content, message, tmp_path):
    (tmp_path / RESULT).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"result.json is not of a run: {message}"):
        read_result(tmp_path)


def test_a_run_that_was_cut_off_goes_on(tiny, tmp_path):
    whole = finish(tiny(), tmp_path)
    (tmp_path / RESULT).unlink()
    assert finish(tiny(), tmp_path)["history"] == whole["history"]
    assert len(checkpoints(tmp_path)) == 1


def test_finished_runs_of_another_recipe_are_not_taken_for_this_ones(tiny, tmp_path):
    finish(tiny(), tmp_path)
    with pytest.raises(CheckpointError, match="a run of another recipe"):
        finish(tiny(lr=0.5), tmp_path)


def test_finished_runs_of_another_version_are_not_taken_for_this_ones(tiny, tmp_path):
    finish(tiny(), tmp_path)
    stored = json.loads((tmp_path / RESULT).read_text())
    stored["environment"]["sttp_riemann"] = "0.0"
    (tmp_path / RESULT).write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match=r"a run of version 0.0 and this is"):
        finish(tiny(), tmp_path)


def test_a_folder_named_twice_counts_once(tmp_path):
    folder = store([result("sttp")], tmp_path / "study")
    assert len(find([folder, folder / "0", folder / "0" / ".." / "0"])[0]) == 1


def test_what_is_no_finished_run_is_left_out_by_name(tmp_path):
    store([result("sttp")], tmp_path / "study")
    for name, file, text in [
        ("unfinished", "checkpoint-000000002.safetensors", ""),
        ("foreign", RESULT, "{}"),
        ("broken", RESULT, "{"),
        ("newer", RESULT, json.dumps({**plain(result("dense")), "recipe": {"warp": 9}})),
    ]:
        (tmp_path / "study" / name).mkdir()
        (tmp_path / "study" / name / file).write_text(text)
    (tmp_path / "empty").mkdir()
    found, skipped = find([tmp_path / "study", tmp_path / "empty", tmp_path / "nowhere"])
    assert [run["recipe"]["method"] for run in found] == ["sttp"]
    told = " | ".join(skipped).replace(f"{tmp_path}/", "")
    assert "study/unfinished is not finished" in told
    assert "study/foreign/result.json is not of a run: it has no environment" in told
    assert "study/broken/result.json cannot be read" in told
    assert "study/newer is of a recipe that is not valid here: unknown recipe field 'warp'" in told
    assert told.endswith("empty holds no run | nowhere is no folder")


def test_a_recipe_that_lacks_fields_has_them_at_their_defaults(tmp_path):
    run = plain(result("sttp"))
    del run["recipe"]["network"]
    folder = store([result("sttp")], tmp_path)
    (folder / "0" / RESULT).write_text(json.dumps(run))
    (found,), _ = find([folder])
    assert (found["recipe"]["method"], found["recipe"]["frames"]) == ("sttp", "riemannian")


def test_a_run_of_a_version_with_other_defaults_of_the_other_task_is_read(tmp_path):
    run = plain(result("dense"))
    run["recipe"]["generator"]["penalty_weight"] = 0.75
    (tmp_path / RESULT).write_text(json.dumps(run))
    runs, skipped = find([tmp_path])
    assert not skipped
    assert bearing(recipe_of(runs[0])) == bearing(Recipe().changed(method="dense"))
