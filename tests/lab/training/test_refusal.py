from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from torch import nn

from sttp_riemann.errors import LONGEST, DivergedError
from sttp_riemann.lab.cli.main import main
from sttp_riemann.lab.training import refusal
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.optimizers import split_state
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints
from tests.lab.training.test_resume import assert_same_bits, run_cut

KINDS = [
    (method, frames, optimizer)
    for method, frames in (("dense", "riemannian"), ("sttp", "riemannian"), ("svdp", "householder"))
    for optimizer in ("adam", "sgd")
]
NAN = float("nan")


def poison(trainer: Trainer, steps: Collection[int], player: str, place: int, value: float = NAN) -> str:
    """Spoil one parameter's gradient at these steps; its name."""
    name, parameter = list(trainer.task.players[player].model.named_parameters())[place]
    parameter.register_hook(lambda grad: torch.full_like(grad, value) if trainer.progress.step + 1 in steps else None)
    return name


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that a step moves."""
    found = {}
    for name, player in trainer.task.players.items():
        kept, values = split_state(player.optimizer)
        found |= {f"{name}.{key}": value.clone() for key, value in player.model.state_dict().items()}
        found |= {f"{name}.optimizer.{key}": value.clone() for key, value in kept.items()}
        found |= {f"{name}.{key}": torch.tensor(value) for key, value in values["scalars"].items()}
        if player.average is not None:
            found |= {f"{name}.average.{key}": value.clone() for key, value in player.average.state_dict().items()}
    return found


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize(("method", "frames", "optimizer"), KINDS)
def test_a_bad_gradient_ends_the_run_by_step_layer_and_remedy_and_has_moved_nothing(
    method, frames, optimizer, clip, tiny, tmp_path
):
    trainer = Trainer(tiny(method=method, frames=frames, optimizer=optimizer, clip=clip, steps=9), tmp_path)
    name = poison(trainer, {3}, "classifier", place=-4)
    trainer._step()
    trainer._step()
    before = {key: value for key, value in state(trainer).items() if "running" not in key and "tracked" not in key}
    with pytest.raises(DivergedError) as error:
        trainer._step()
    assert all(torch.equal(state(trainer)[key], value) for key, value in before.items())
    told = str(error.value)
    assert told.startswith(f"step 3 of {trainer.recipe.label}, seed 0: the gradient of {name} holds NaN")
    assert "set lr below 0.01" in told
    assert "skip_bad_steps" in told
    assert ("clip to 1" in told) is (clip is None)
    assert len(told) <= LONGEST


@pytest.mark.parametrize(("method", "frames", "optimizer"), KINDS)
def test_a_step_that_is_left_out_moves_nothing_but_the_data(method, frames, optimizer, tiny, tmp_path):
    fields = {"method": method, "frames": frames, "optimizer": optimizer, "ema": 0.5, "skip_bad_steps": 1}
    trainer = Trainer(tiny(**fields), tmp_path)
    poison(trainer, {3}, "classifier", place=0)
    trainer._step()
    trainer._step()
    before, queue = state(trainer), trainer.order.state()["queue"]
    trainer._step()
    assert same(state(trainer), before)
    assert torch.equal(trainer.order.state()["queue"], queue[trainer.recipe.schedule.batch_size :])
    assert (trainer.progress.step, trainer.progress.skipped, len(trainer.progress.losses)) == (3, 1, 2)
    trainer._step()
    assert not same(state(trainer), before)


def test_the_steps_after_are_those_of_a_run_that_drew_the_batch_and_did_nothing(tiny, tmp_path):
    recipe = tiny(ema=0.5, skip_bad_steps=1, gauge_fix_every=0)
    poisoned, idle = (Trainer(recipe, tmp_path / name) for name in ("poisoned", "idle"))
    poison(poisoned, {2}, "classifier", place=0)
    for step in range(1, 5):
        poisoned._step()
        if step == 2:
            idle.order.draw()
            idle.progress.step += 1
        else:
            idle._step()
    assert same(state(poisoned), state(idle))


def test_more_bad_steps_than_may_be_left_out_end_the_run(tiny, tmp_path):
    trainer = Trainer(tiny(skip_bad_steps=2), tmp_path)
    poison(trainer, {2, 4, 5}, "classifier", place=0)
    with pytest.raises(DivergedError, match=r"step 5 of .*, after 2 that were skipped: .*skip_bad_steps, which is 2"):
        trainer.run()


def test_a_run_that_ended_at_a_bad_step_goes_on_when_it_may_be_left_out(tiny, tmp_path):
    for skip in (0, 1):
        trainer = Trainer(tiny(skip_bad_steps=skip, checkpoint_every=1), tmp_path)
        poison(trainer, {4}, "classifier", place=0)
        if not skip:
            with pytest.raises(DivergedError, match="step 4 of"):
                trainer.run()
    assert trainer.run()["skipped_steps"] == 1


def test_an_interval_without_a_single_good_step_has_no_training_loss(tiny, tmp_path):
    trainer = Trainer(tiny(skip_bad_steps=6), tmp_path)
    poison(trainer, {1, 2, 3}, "classifier", place=0)
    first, second = (row["train_loss"] for row in trainer.run()["history"])
    assert first != first
    assert second == second


class Poisoned(Trainer):
    """Whose gradients are bad at some steps, whenever it is begun anew."""

    player = "classifier"

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__(recipe, folder)
        poison(self, {1, 4, 5, 9}, self.player, place=0)


@pytest.mark.parametrize(("method", "frames", "optimizer"), KINDS)
def test_a_run_with_steps_left_out_that_is_cut_off_ends_with_the_same_bits(
    method, frames, optimizer, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("tests.lab.training.test_resume.Trainer", Poisoned)
    fields = {"steps": 12, "checkpoint_every": 1, "ema": 0.9, "clip": 1.0, "skip_bad_steps": 4}
    recipe = tiny(**fields, method=method, frames=frames, optimizer=optimizer)
    result = Poisoned(recipe, tmp_path / "undisturbed").run()
    assert result["skipped_steps"] == 4
    run_cut(recipe, tmp_path / "cut", (1, 4, 5, 10), monkeypatch)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "cut")


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("method", ["sn", "sttp"])
def test_a_gan_with_steps_left_out_that_is_cut_off_ends_with_the_same_bits(
    method, player, tiny_gan, tmp_path, monkeypatch
):
    monkeypatch.setattr("tests.lab.training.test_resume.Trainer", Poisoned)
    monkeypatch.setattr(Poisoned, "player", player)
    recipe = tiny_gan(method=method, ema=0.9, steps=10, evaluate_every=5, skip_bad_steps=4)
    assert Poisoned(recipe, tmp_path / "undisturbed").run()["skipped_steps"] == 4
    run_cut(recipe, tmp_path / "cut", (1, 4, 6), monkeypatch)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "cut")


@pytest.mark.parametrize("method", ["sn", "sttp"])
def test_a_gan_leaves_out_what_was_refused_and_the_rest_of_the_step(method, tiny_gan, tmp_path):
    trainer = Trainer(tiny_gan(method=method, skip_bad_steps=1), tmp_path)
    poison(trainer, {2}, "discriminator", place=0)
    trainer._step()
    before = state(trainer)
    trainer._step()
    assert same(state(trainer), before)
    assert trainer.progress.skipped == 1
    assert all(p.requires_grad for p in trainer.task.players["discriminator"].model.parameters())


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_gan_names_the_network_that_is_refused(player, tiny_gan, tmp_path):
    trainer = Trainer(tiny_gan(), tmp_path)
    name = poison(trainer, {2}, player, place=1)
    with pytest.raises(DivergedError, match=f"step 2 of .*: {player}: the gradient of {name} holds NaN"):
        trainer.run()


@pytest.mark.parametrize("path", [["dense"], ["sttp", "riemannian"], ["sttp", "householder"], ["svdp", "riemannian"]])
def test_a_rate_that_is_far_too_high_is_told_in_one_line(path, tmp_path, capsys):
    paths = ["--frames", *path[1:]] if path[1:] else []
    narrow = ["--network_options", "{width: 8, depth: 1}", "--steps", "60", "--device", "cpu", "--threads", "1"]
    rate = ["--optimizer", "sgd", "--lr", "1e25", "--evaluate_every", "60", "--decay", "none"]
    arguments = ["train", "digits", "--method", path[0], *paths, *rate, *narrow]
    assert main([*arguments, "--output", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.strip().split("\r")[-1].splitlines()
    assert line.startswith("sttp-riemann: step ")
    assert "set lr below 1e+25" in line


def test_weights_that_a_step_has_ruined_are_not_kept(tiny, tmp_path):
    trainer = Trainer(tiny(checkpoint_every=1), tmp_path)
    step, model = trainer._step, trainer.task.players["classifier"].model
    name = next(name for name, _ in model.named_parameters())

    def ruin() -> None:
        step()
        if trainer.progress.step == 2:
            model.get_parameter(name).data.fill_(NAN)

    trainer._step = ruin
    with pytest.raises(DivergedError, match=f"step 2 of .*: the numbers of {name} are no longer finite: set lr below"):
        trainer.run()
    assert [path.stem[-1] for path in checkpoints(tmp_path)] == ["1"]


def test_a_weight_that_cannot_be_decomposed_is_told_in_one_line(tiny_gan, tmp_path):
    recipe = tiny_gan(method="sr", optimizer="sgd", lr=1e3, weight_decay=0.1, decay="none", steps=6, skip_bad_steps=3)
    with pytest.raises(DivergedError, match=r"step \d of sr, seed 0"):
        Trainer(recipe, tmp_path).run()


def test_the_first_parameter_that_is_not_finite_is_named():
    models = {"one": nn.Linear(2, 2), "other": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))}
    assert refusal.not_finite(models) is None
    with torch.no_grad():
        models["other"][1].bias[0] = float("inf")
    assert refusal.not_finite(models) == "1.bias in the other"
    assert refusal.not_finite({"other": models["other"]}) == "1.bias"
