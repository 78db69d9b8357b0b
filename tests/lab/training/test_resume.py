from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sttp_riemann.lab import recipes
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints

# Every checkpoint of a step, so that kills fall into the writing of one, too
EVERYTHING = {
    "steps": 60,
    "evaluate_every": 7,
    "checkpoint_every": 1,
    "gauge_fix_every": 5,
    "keep": 2,
    "keep_best": True,
    "validation": 0.2,
    "ema": 0.9,
    "mixup": 0.3,
    "augment": {"RandomCrop": {"size": 8, "padding": 1}},
    "label_smoothing": 0.1,
    "accumulate": 2,
    "clip": 1.0,
    "penalty": "d_optimal",
    "decay": "cosine",
    "tensorboard": True,
}
VARIANTS = [
    ("sttp", "riemannian", "adam"),
    ("sttp", "householder", "adam"),
    ("svdp", "riemannian", "sgd"),
    ("svdp", "riemannian", "adam"),
    ("sttp", "riemannian", "sgd"),
]
# Addresses of this alignment are what torch gives; matrix products of some processors round otherwise at others
ALIGNED = 64


def final(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    checkpoint = load_checkpoint(checkpoints(folder)[-1])
    return checkpoint.tensors, checkpoint.values["progress"]["history"]


def assert_same_bits(one: Path, two: Path) -> None:
    (tensors, history), (others, other_history) = final(one), final(two)
    assert tensors.keys() == others.keys()
    different = [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])]
    assert not different
    assert history == other_history


def run(recipe, folder: Path) -> None:
    Trainer(recipe, folder).run()


class CutError(Exception):
    pass


def run_cut(recipe, folder: Path, moments: Sequence[int], monkeypatch) -> None:
    """Begin a run, stop it at each of these steps, and go on."""
    step = Trainer._step
    for moment in moments:

        def cut(self, moment=moment):
            if self.progress.step == moment:
                raise CutError
            step(self)

        monkeypatch.setattr(Trainer, "_step", cut)
        with pytest.raises(CutError):
            run(recipe, folder)
    monkeypatch.setattr(Trainer, "_step", step)
    run(recipe, folder)


@pytest.mark.parametrize(("method", "frames", "optimizer"), VARIANTS)
def test_a_run_cut_off_anywhere_ends_with_the_same_bits(method, frames, optimizer, tiny, tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    fields = {**EVERYTHING, "steps": 15, "checkpoint_every": 4, "tensorboard": False}
    recipe = tiny(**fields, method=method, frames=frames, optimizer=optimizer)
    run(recipe, tmp_path / "undisturbed")
    run_cut(recipe, tmp_path / "cut", (2, 6, 13), monkeypatch)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "cut")


def digits(**changes: Any) -> Recipe:
    """The shipped comparison's own networks, for a few steps."""
    fields = {"steps": 10, "checkpoint_every": 1, "evaluate_every": 5, "gauge_fix_every": 4, "device": "cpu"}
    return Recipe.from_dict(recipes.read("digits")).changed(**{**fields, **changes})


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_networks_of_full_width_go_on_with_the_same_bits(method, optimizer, tmp_path, monkeypatch):
    recipe = digits(method=method, optimizer=optimizer)
    run(recipe, tmp_path / "undisturbed")
    run_cut(recipe, tmp_path / "cut", (1, 4, 9), monkeypatch)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "cut")


def places(trainer: Trainer) -> dict[str, tuple[int, tuple[int, ...]]]:
    """How all state of a run lies in memory: what its bits depend on beside its values.

    One number a matrix, and matrices over rank indices, are left out: those of equal frames lie side by side once a
    step has gathered them.
    """
    found = {}
    for player in trainer.task.players.values():
        tensors = dict(player.model.state_dict())
        for index, entry in player.optimizer.state_dict()["state"].items():
            kept = {key: value for key, value in entry.items() if torch.is_tensor(value) and value.numel() > 1}
            kept = {key: value for key, value in kept.items() if not key.startswith(("outer_", "inner_"))}
            tensors.update({f"{index}.{key}": value for key, value in kept.items()})
        found.update({name: (tensor.data_ptr() % ALIGNED, tensor.stride()) for name, tensor in tensors.items()})
    return found


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_the_state_of_a_resumed_run_lies_in_memory_as_that_of_an_undisturbed_one(method, optimizer, tmp_path):
    recipe = digits(method=method, optimizer=optimizer)
    undisturbed = Trainer(recipe, tmp_path)
    undisturbed.run()
    assert places(Trainer(recipe, tmp_path)) == places(undisturbed)
