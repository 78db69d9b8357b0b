"""A run that is killed at any moment and started again ends with the bits of one that was left alone.

A run that is to be killed is held once it has gone far enough, so that the kill comes before its end on any machine.
Moments are counted in steps on disk; what is left to chance is where in a step or in a write the signal arrives.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from sttp_riemann.files import LOCK
from sttp_riemann.lab import recipes
from sttp_riemann.lab.cli.main import main
from sttp_riemann.lab.studies import compare as comparison
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import RESULT, Trainer
from sttp_riemann.lab.training.recipe import Recipe, flatten, nest
from sttp_riemann.lab.training.storage import BEST, checkpoints
from tests.lab.training.test_resume import EVERYTHING, assert_same_bits, digits, run

MOMENTS = WRITE, STEP, START = "write", "step", "start"
SIGNALS = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
TOLD = 77
"""Exit status of a process that ended because it was told to."""
INTERRUPTED = 130
FARTHEST = 6
"""Most steps that a run takes from one kill to the next."""
PRELOADED = ["sttp_riemann.lab.training.classify", "sttp_riemann.lab.training.loop", "torchvision.transforms.v2"]
HELD_SECONDS = 600
"""How long a held process outlives a test that has failed."""


class Kill(NamedTuple):
    """When, and how."""

    moment: str
    number: signal.Signals


def kills_in_turn(count: int, draw: random.Random) -> list[Kill]:
    """Give every moment as often as every other, and every signal likewise, and nine pairs before one comes again."""
    kills = [Kill(MOMENTS[i % 3], SIGNALS[(i + i // 3) % 3]) for i in range(count)]
    return draw.sample(kills, count)


class Leash(NamedTuple):
    """How far a process may go."""

    output: Path
    steps: int
    moment: str

    def put_on(self) -> None:
        """Hold this process where it would begin a step, or put a file in place, beyond the end."""
        place, name, room = (os, "replace", 0) if self.moment == WRITE else (Trainer, "_step", 2)
        action = getattr(place, name)

        def held(*arguments: Any, **options: Any) -> Any:
            if steps_on_disk(self.output) >= self.steps + room:
                time.sleep(HELD_SECONDS)
                os._exit(1)
            return action(*arguments, **options)

        setattr(place, name, held)


def steps_on_disk(output: Path) -> int:
    """Steps that need not be taken again, of all runs below a folder."""
    folders = {path.parent for path in output.rglob("checkpoint-*.safetensors")}
    lasts = [checkpoints(folder)[-1:] for folder in folders]
    return sum(int(path.stem.removeprefix("checkpoint-")) for last in lasts for path in last)


def partials(output: Path) -> set[Path]:
    return set(output.rglob("*.partial"))


def train_until_told(recipe: Recipe, output: Path, leash: Leash | None) -> None:
    """Run in a process of its own, which ends at a signal without a word."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TOLD))
    try:
        if leash is not None:
            leash.put_on()
        run(recipe, output)
    except KeyboardInterrupt:
        os._exit(TOLD)


def finish_on_leash(leash: Leash, recipe: Recipe, folder: Path) -> Any:
    """Do in a worker what a comparison does there, as far as the leash goes."""
    leash.put_on()
    return comparison.finish(recipe, folder)


def compare_until_told(path: Path, output: Path, leash: Leash | None) -> None:
    """Run the command line in a process of its own; what it prints goes into a file."""
    with output.with_suffix(".told").open("a") as stream:
        os.dup2(stream.fileno(), sys.stderr.fileno())
    if leash is not None:
        comparison.finish = partial(finish_on_leash, leash)
    sys.exit(main(["compare", "--recipe", str(path), "--workers", "2", "--output", str(output)]))


def wait_for_the_moment(process: Any, kill: Kill, leash: Leash, draw: random.Random) -> None:
    """Let a process go as far as to where it is to be killed."""
    before = partials(leash.output)

    def there() -> bool:
        arrived = steps_on_disk(leash.output) >= leash.steps
        # What is written after the last step is held, and so is there until the process is gone
        return arrived and (kill.moment != WRITE or bool(partials(leash.output) - before))

    while kill.moment != START and process.is_alive() and not there():
        time.sleep(0.001)
    process.join({START: draw.uniform(0.0, 0.4), STEP: draw.uniform(0.0, 0.1), WRITE: 0.0}[kill.moment])
    assert process.is_alive(), f"it ended by itself, with {process.exitcode}"


def send(process: Any, number: signal.Signals) -> None:
    """Kill a process, as often as it takes: Python forgets an interruption that comes while it frees an object."""
    while process.is_alive():
        os.kill(process.pid, number)
        process.join(10)


def wait_until_free(output: Path) -> None:
    """Wait for workers, who may take a moment to see that the process that started them is gone."""
    for path in output.rglob(LOCK):
        with path.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)


def kill_until_done(target: Callable[..., None], what: Any, output: Path, kills: int, seed: str) -> set[Kill]:
    """Run, kill and run again, until the last run comes to its end; give the kills that left a file half written."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    draw, torn = random.Random(seed), set()
    for kill in kills_in_turn(kills, draw):
        leash = Leash(output, steps_on_disk(output) + draw.randint(1, FARTHEST - 3), kill.moment)
        process = context.Process(target=target, args=(what, output, leash))
        process.start()
        wait_for_the_moment(process, kill, leash, draw)
        send(process, kill.number)
        assert process.exitcode in (TOLD, INTERRUPTED, 1, -kill.number)
        if partials(output):
            torn.add(kill)
        wait_until_free(output)
    process = context.Process(target=target, args=(what, output, None))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not partials(output)
    return torn


def results(folder: Path) -> dict[str, Any]:
    """All that a run leaves beside its checkpoints, without what a clock says and where it lies."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".png")]
    found: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    found[RESULT] = json.loads(found[RESULT])
    del found[RESULT]["median_step_ms"], found[RESULT]["recipe"]
    return found


def assert_same_run(one: Path, two: Path) -> None:
    assert_same_bits(one, two)
    assert results(one) == results(two)
    assert (one / BEST).exists() == (two / BEST).exists()
    if (one / BEST).exists():
        best, other = load_checkpoint(one / BEST).tensors, load_checkpoint(two / BEST).tensors
        assert best.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in best.items())


def gan(**changes: Any) -> Recipe:
    """The shipped GAN's own networks, both of them in frames."""
    fields = {"metrics": [], "generator_method": "follow", "ema": 0.9, "batch_size": 8, "discriminator_steps": 2}
    every = {"evaluate_every": 7, "checkpoint_every": 1, "gauge_fix_every": 5}
    given = {**fields, **every, "device": "cpu", **changes}
    return Recipe.from_dict(recipes.read("gan-digits")).changed(**given)


def slow(*case: Any) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


FRAMES, OPTIMIZERS = ("riemannian", "householder"), ("adam", "sgd")


# 64 slow kills, which are a hundred with the 24 of GANs and the 12 of a comparison
@pytest.mark.parametrize(
    ("method", "frames", "optimizer", "kills"),
    [
        # Three are the fewest that have every moment, every signal, and a kill in the middle of a write
        ("sttp", "riemannian", "adam", 3),
        *(slow(*variant, 8) for variant in product(("sttp", "svdp"), FRAMES, OPTIMIZERS)),
    ],
)
def test_a_killed_classifier_ends_with_the_bits_of_an_undisturbed_one(method, frames, optimizer, kills, tmp_path):
    pytest.importorskip("torchvision")
    fields = {**EVERYTHING, "steps": FARTHEST * kills + 2, "method": method, "frames": frames, "optimizer": optimizer}
    recipe = digits(**fields)
    run(recipe, tmp_path / "undisturbed")
    torn = kill_until_done(train_until_told, recipe, tmp_path / "killed", kills, f"{method} {frames} {optimizer}")
    assert Kill(WRITE, signal.SIGKILL) in torn
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")


@pytest.mark.parametrize(("frames", "kills"), [("riemannian", 3), *(slow(frames, 12) for frames in FRAMES)])
def test_a_killed_gan_ends_with_the_bits_of_an_undisturbed_one(frames, kills, tmp_path):
    recipe = gan(method="sttp", frames=frames, steps=FARTHEST * kills + 2)
    run(recipe, tmp_path / "undisturbed")
    assert Kill(WRITE, signal.SIGKILL) in kill_until_done(train_until_told, recipe, tmp_path / "killed", kills, frames)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")


@pytest.mark.slow
def test_a_killed_comparison_by_two_workers_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    kills, whole, killed, path = 12, tmp_path / "whole", tmp_path / "killed", tmp_path / "recipe.yaml"
    fields = {"name": "killed", "seeds": [0], "methods": ["svdp", "sttp"], "steps": 3 * kills, "checkpoint_every": 1}
    fields |= {"evaluate_every": 3, "device": "cpu"}
    path.write_text(yaml.safe_dump(nest({**flatten(recipes.read("digits")), **fields})))
    comparison.compare(Recipe.from_dict(yaml.safe_load(path.read_text())), whole)
    kill_until_done(compare_until_told, path, killed, kills, "compare")
    assert "Traceback" not in killed.with_suffix(".told").read_text()
    folders = [result.parent.relative_to(whole) for result in sorted(whole.rglob(RESULT))]
    assert len(folders) == 4
    for folder in folders:
        assert_same_run(whole / folder, killed / folder)
