from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sttp_riemann.lab import recipes
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints
from tests.conftest import TINY

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
CUT = 77
"""Exit status of a process that ended because it was told to."""


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
    return Recipe.from_dict({**recipes.read("digits"), **fields, **changes})


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_networks_of_full_width_go_on_with_the_same_bits(method, optimizer, tmp_path, monkeypatch):
    recipe = digits(method=method, optimizer=optimizer)
    run(recipe, tmp_path / "undisturbed")
    run_cut(recipe, tmp_path / "cut", (1, 4, 9), monkeypatch)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "cut")


def places(trainer: Trainer) -> dict[str, tuple[int, tuple[int, ...]]]:
    """How all state of a run lies in memory: what its bits depend on beside its values.

    One number a matrix is left out: those of equal frames lie side by side once a step has gathered them.
    """
    found = {}
    for player in trainer.task.players.values():
        tensors = dict(player.model.state_dict())
        for index, entry in player.optimizer.state_dict()["state"].items():
            kept = {key: value for key, value in entry.items() if torch.is_tensor(value) and value.numel() > 1}
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


def run_until_told(recipe, folder: Path) -> None:
    """Run in a process of its own, which ends at a signal without a word."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(CUT))
    try:
        run(recipe, folder)
    except KeyboardInterrupt:
        os._exit(CUT)


def wait_for_the_moment(process, folder: Path, draw: random.Random) -> None:
    """Let a run start, or take one to six steps and a little more: counted in steps, as machines differ in speed."""
    if draw.random() < 0.25:
        process.join(draw.uniform(0.0, 0.4))
        return
    first, steps = latest_step(folder), draw.randint(1, 6)
    while process.is_alive() and latest_step(folder) < first + steps:
        time.sleep(0.001)
    process.join(draw.uniform(0.0, 0.02))


def latest_step(folder: Path) -> int:
    return max((int(path.stem.removeprefix("checkpoint-")) for path in checkpoints(folder)), default=0)


def kill_until_done(recipe, folder: Path, kills: int, seed: int) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sttp_riemann.lab.training.loop", "sttp_riemann.lab.training.classify"])
    draw, killed = random.Random(seed), 0
    while True:
        process = context.Process(target=run_until_told, args=(recipe, folder))
        process.start()
        if killed < kills:
            wait_for_the_moment(process, folder, draw)
            if process.is_alive():
                os.kill(process.pid, draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.join()
        assert process.exitcode in (0, CUT, 1, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
        if process.exitcode == 0:
            return killed
        assert killed < kills, "it ended by itself"
        killed += 1


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "frames", "optimizer"), VARIANTS[:3])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(kills, method, frames, optimizer, tiny, tmp_path):
    pytest.importorskip("torchvision")
    fields = {**EVERYTHING, "steps": 40 * kills}
    recipe = tiny(**fields, method=method, frames=frames, optimizer=optimizer)
    run(recipe, tmp_path / "undisturbed")
    assert kill_until_done(recipe, tmp_path / "killed", kills, seed=kills) >= min(kills, 3)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")
    assert not list((tmp_path / "killed").rglob("*.partial"))


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_network_of_full_width_killed_at_random_moments_ends_with_the_same_bits(kills, tmp_path):
    recipe = digits(steps=20 * kills, keep=2)
    run(recipe, tmp_path / "undisturbed")
    assert kill_until_done(recipe, tmp_path / "killed", kills, seed=kills) >= min(kills, 3)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_gan_killed_at_random_moments_ends_with_the_same_bits(frames, tiny_gan, tmp_path):
    recipe = tiny_gan(method="sttp", frames=frames, generator_method="follow", ema=0.9, steps=150, gauge_fix_every=5)
    run(recipe, tmp_path / "undisturbed")
    assert kill_until_done(recipe, tmp_path / "killed", 20, seed=20) >= 3
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")


def compare_in_a_process(fields: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(fields))
    program = "import sys; from sttp_riemann.lab.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "compare", "--recipe", str(path), "--workers", "2"]
    return subprocess.Popen([*command, "--output", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_comparison_by_two_workers_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    fields = {**TINY, "name": "killed", "seeds": [0], "methods": ["svdp", "sttp"], "steps": 300, "checkpoint_every": 3}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert compare_in_a_process(fields, whole).wait() == 0
    draw, times, status = random.Random(0), 0, 1
    while status != 0:
        process = compare_in_a_process(fields, killed)
        try:
            process.wait(draw.uniform(6, 14) if times < 10 else 600)
        except subprocess.TimeoutExpired:
            process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            times += 1
        told = process.communicate()[1].decode()
        status = process.returncode
        # The workers of a killed process may take a moment to see that it is gone
        assert "Traceback" not in told or status < 0
    folders = [path.parent.relative_to(whole) for path in sorted(whole.rglob("result.json"))]
    assert len(folders) == 4
    assert times >= 3
    for folder in folders:
        assert_same_bits(whole / folder, killed / folder)
