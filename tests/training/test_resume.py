from __future__ import annotations

import multiprocessing
import random
import signal
from pathlib import Path

import pytest
import torch

from sttp_riemann.training.checkpoint import load_checkpoint
from sttp_riemann.training.loop import Trainer
from sttp_riemann.training.storage import checkpoints

# Every checkpoint of a step, so that kills fall into the writing of one, too
EVERYTHING = {
    "steps": 60,
    "evaluate_every": 7,
    "checkpoint_every": 1,
    "gauge_fix_every": 5,
    "keep": 2,
    "keep_best": True,
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
VARIANTS = [("sttp", "riemannian", "adam"), ("sttp", "householder", "adam"), ("svdp", "riemannian", "sgd")]


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


@pytest.mark.parametrize(("method", "frames", "optimizer"), VARIANTS)
def test_a_run_cut_off_anywhere_ends_with_the_same_bits(method, frames, optimizer, tiny, tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    fields = {**EVERYTHING, "steps": 15, "checkpoint_every": 4, "tensorboard": False}
    recipe = tiny(**fields, method=method, frames=frames, optimizer=optimizer)
    run(recipe, tmp_path / "undisturbed")
    step = Trainer._step
    for moment in (2, 6, 13):

        def cut(self, moment=moment):
            if self.progress.step == moment:
                raise CutError
            step(self)

        monkeypatch.setattr(Trainer, "_step", cut)
        with pytest.raises(CutError):
            run(recipe, tmp_path / "cut")
    monkeypatch.setattr(Trainer, "_step", step)
    run(recipe, tmp_path / "cut")
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "cut")


def kill_until_done(recipe, folder: Path, kills: int, seed: int) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sttp_riemann.training.loop", "sttp_riemann.training.classify"])
    moments, killed = random.Random(seed), 0
    while True:
        process = context.Process(target=run, args=(recipe, folder))
        process.start()
        if killed < kills:
            process.join(moments.uniform(0.3, 0.9))
            process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            return killed


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "frames", "optimizer"), VARIANTS[:2])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(kills, method, frames, optimizer, tiny, tmp_path):
    pytest.importorskip("torchvision")
    fields = {**EVERYTHING, "steps": 40 * kills}
    recipe = tiny(**fields, method=method, frames=frames, optimizer=optimizer)
    run(recipe, tmp_path / "undisturbed")
    assert kill_until_done(recipe, tmp_path / "killed", kills, seed=kills) >= min(kills, 3)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")
