from __future__ import annotations

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sttp_riemann as sr
from sttp_riemann.errors import CheckpointError, DivergedError, RecipeError
from sttp_riemann.files import LOCK
from sttp_riemann.lab.training import machine
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.classify import Classification
from sttp_riemann.lab.training.loop import RESULT, Trainer, open_logbook
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.storage import BESIDE, BEST, checkpoints


def test_a_run_tells_what_it_was_and_what_came_out(tiny, tmp_path):
    result = Trainer(tiny(), tmp_path).run()
    assert json.loads((tmp_path / RESULT).read_text()) == result
    assert result["label"] == "sttp-riemannian"
    assert result["recipe"] == tiny().to_dict()
    assert [row["step"] for row in result["history"]] == [3, 6]
    assert result["final"] == result["history"][-1]
    assert result["final"].keys() == {
        "step",
        "train_loss",
        "test_loss",
        "test_accuracy",
        "orthogonality_error",
        "chart_margin",
    }
    assert 0 < result["median_step_ms"] < 1000
    assert 0 < result["largest_orthogonality_error"] < 1e-5


@pytest.mark.parametrize("method", ["dense", "svdp", "sttp"])
@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_the_same_recipe_gives_the_same_run(method, frames, tiny, tmp_path):
    recipe = tiny(method=method, frames=frames)
    one, two = (Trainer(recipe, tmp_path / name).run() for name in "ab")
    assert one["history"] == two["history"]
    assert Trainer(tiny(method=method, frames=frames, seed=1), tmp_path / "c").run()["history"] != one["history"]


def test_the_last_step_is_evaluated_and_kept_whatever_the_intervals(tiny, tmp_path):
    recipe = tiny(steps=5, evaluate_every=4, checkpoint_every=0)
    assert [row["step"] for row in Trainer(recipe, tmp_path).run()["history"]] == [4, 5]
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000000005.safetensors"]


@pytest.mark.parametrize(
    ("frames", "every", "times"), [("riemannian", 2, 3), ("riemannian", 0, 0), ("householder", 2, 3)]
)
def test_the_gauge_is_fixed_as_often_as_asked(frames, every, times, tiny, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(Player, "fix_gauge", lambda self: calls.append(self))
    Trainer(tiny(frames=frames, gauge_fix_every=every), tmp_path).run()
    assert len(calls) == times


def test_a_run_without_improvement_ends_early(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "score", lambda self, figures: -figures["step"])
    result = Trainer(tiny(steps=50, evaluate_every=1, patience=2, validation=0.2), tmp_path).run()
    assert result["final"]["step"] == 3
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000000003.safetensors"]


def test_a_run_that_ended_early_stays_ended(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "score", lambda self, figures: -figures["step"])
    recipe = tiny(steps=50, evaluate_every=1, patience=2, validation=0.2)
    first = Trainer(recipe, tmp_path).run()
    (tmp_path / RESULT).unlink()
    assert Trainer(recipe, tmp_path).run()["history"] == first["history"]


def test_checkpoints_are_kept_by_number_and_the_best_beside(tiny, tmp_path):
    recipe = tiny(steps=9, keep=2, keep_best=True, validation=0.2, evaluate_every=3, checkpoint_every=3)
    history = Trainer(recipe, tmp_path).run()["history"]
    assert [path.stem[-1] for path in checkpoints(tmp_path)] == ["6", "9"]
    best = max(history, key=lambda row: row["validation_accuracy"])["step"]
    assert load_checkpoint(tmp_path / BEST).values["progress"]["step"] == best


def test_tensorboard_gets_the_history_when_asked(tiny, tmp_path):
    Trainer(tiny(), tmp_path / "without").run()
    Trainer(tiny(tensorboard=True), tmp_path / "with").run()
    assert not (tmp_path / "without" / "tensorboard").exists()
    events = EventAccumulator(str(tmp_path / "with" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [3, 6]


def test_a_resumed_run_hides_what_it_does_again_from_tensorboard(tmp_path):
    for begin, steps in ((0, (5, 10)), (5, (10, 15))):
        with open_logbook(tmp_path, begin) as book:
            for step in steps:
                book.add_scalar("loss", float(begin), step)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 0.0), (10, 5.0), (15, 5.0)]


def test_a_loss_that_is_not_finite_ends_the_run_with_the_remedy(tiny, tmp_path):
    recipe = tiny(method="dense", optimizer="sgd", lr=1e30, decay="none", steps=20)
    with pytest.raises(DivergedError, match=r"step \d+ of dense, seed 0: the loss is (nan|inf).* set lr below 1e\+30"):
        Trainer(recipe, tmp_path).run()
    assert not (tmp_path / RESULT).exists()


def test_bf16_keeps_frames_in_float32(tiny, tmp_path):
    trainer = Trainer(tiny(precision="bf16"), tmp_path)
    assert trainer.run()["largest_orthogonality_error"] < 1e-5
    model = trainer.task.players["classifier"].model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sr.orthogonality_error(model) < 1e-5


def test_a_folder_of_another_recipe_is_refused_naming_what_differs(tiny, tmp_path):
    Trainer(tiny(), tmp_path).run()
    with pytest.raises(CheckpointError, match=r"another recipe \(rank was 4 and is 3\): choose another folder"):
        Trainer(tiny(rank=3), tmp_path)


def test_a_folder_of_another_version_is_refused_naming_both(tiny, tmp_path, monkeypatch):
    Trainer(tiny(), tmp_path).run()
    monkeypatch.setattr("sttp_riemann.lab.training.snapshot.code_version", lambda: "99")
    with pytest.raises(CheckpointError, match=f"a run of version {machine.code_version()} and this is 99"):
        Trainer(tiny(), tmp_path)


def test_what_does_not_matter_may_change_before_going_on(tiny, tmp_path):
    Trainer(tiny(), tmp_path).run()
    Trainer(tiny(checkpoint_every=3, keep=5, name="other"), tmp_path).run()


def test_data_that_cannot_be_had_is_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(RecipeError, match="unknown data set"):
        Trainer(tiny(data="letters"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_a_folder_is_refused_before_anything_is_written(tiny, tmp_path):
    first = Trainer(tiny(), tmp_path)
    with pytest.raises(CheckpointError, match=r"another run is in .*: wait for its end, or choose another folder"):
        Trainer(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    first.run()
    Trainer(tiny(), tmp_path)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, DivergedError("the loss is nan")])
def test_a_run_that_ended_in_any_way_leaves_its_folder_free(fault, tiny, tmp_path, monkeypatch):
    def fail(self):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", fail)
        trainer = Trainer(tiny(), tmp_path)
        with pytest.raises(type(fault) if isinstance(fault, Exception) else fault):
            trainer.run()
    Trainer(tiny(), tmp_path).run()


def test_a_run_that_could_not_begin_leaves_its_folder_free(tiny, tmp_path):
    Trainer(tiny(), tmp_path).run()
    for _ in range(2):
        with pytest.raises(CheckpointError, match="another recipe") as error:
            Trainer(tiny(rank=3), tmp_path)
    assert error.tb is not None
    Trainer(tiny(), tmp_path)


@pytest.mark.parametrize("name", BESIDE)
def test_a_link_to_elsewhere_in_a_folder_is_refused_before_any_step(name, tiny, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match=f"run/{name} is a link, so files would be written elsewhere"):
        Trainer(tiny(tensorboard=True), tmp_path / "run")
    assert list((tmp_path / "victim").iterdir()) == []


def test_the_folders_that_a_run_writes_are_those_that_are_looked_at(tiny_gan, tmp_path):
    Trainer(tiny_gan(tensorboard=True), tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(BESIDE)


def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_kept(tiny, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    for name in (RESULT, BEST, "checkpoint-000000006.safetensors.partial"):
        (tmp_path / "run" / name).symlink_to(victim)
    Trainer(tiny(keep_best=True, validation=0.2), tmp_path / "run").run()
    assert victim.read_text() == "precious"
    assert json.loads((tmp_path / "run" / RESULT).read_text())["label"] == "sttp-riemannian"


def test_a_folder_that_cannot_be_written_to_is_told_of_before_any_step(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_step", lambda self: pytest.fail("a step was run"))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"could not write to .*file/run"):
        Trainer(tiny(), tmp_path / "file" / "run").run()


@pytest.mark.parametrize(("keep", "rest"), [(1, "starts over"), (2, "resumes from the previous one")])
def test_a_damaged_checkpoint_is_told_with_the_way_on(keep, rest, tiny, tmp_path):
    recipe = tiny(keep=keep)
    whole = Trainer(recipe, tmp_path).run()
    last = checkpoints(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-1])
    (tmp_path / RESULT).unlink()
    with pytest.raises(CheckpointError, match=f"truncated .*: delete it, the run then {rest}"):
        Trainer(recipe, tmp_path)
    last.unlink()
    assert Trainer(recipe, tmp_path).run()["history"] == whole["history"]
