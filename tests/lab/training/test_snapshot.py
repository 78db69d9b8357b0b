from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sttp_riemann.errors import LONGEST, CheckpointError
from sttp_riemann.lab.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoint_path, checkpoints
from tests.conftest import TINY


def test_a_checkpoint_of_a_restored_run_is_the_same(tiny, tmp_path):
    recipe = tiny(ema=0.5)
    Trainer(recipe, tmp_path).run()
    (path,) = checkpoints(tmp_path)
    before = load_checkpoint(path)
    path.unlink()
    save_checkpoint(path, before)
    run = Trainer(recipe, tmp_path)
    run._save()
    after = load_checkpoint(path)
    assert json.dumps(after.values) == json.dumps(before.values)
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Recipe, Checkpoint]:
    """A recipe, and the last checkpoint of its run."""
    recipe, folder = Recipe().changed(**{**TINY, "ema": 0.5}), tmp_path_factory.mktemp("ended")
    Trainer(recipe, folder).run()
    return recipe, load_checkpoint(checkpoints(folder)[-1])


def drop(prefix: str) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        name = next(name for name in checkpoint.tensors if name.startswith(prefix))
        del checkpoint.tensors[name]

    return change


def drop_all(prefix: str) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        for name in [name for name in checkpoint.tensors if name.startswith(prefix)]:
            del checkpoint.tensors[name]

    return change


def add(name: str) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        checkpoint.tensors[name] = torch.zeros(1)

    return change


def reshape(prefix: str) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        name = next(n for n, t in checkpoint.tensors.items() if n.startswith(prefix) and t.ndim > 1)
        checkpoint.tensors[name] = checkpoint.tensors[name][..., :-1]

    return change


def put(*path: str | int, value: object) -> Callable[[Checkpoint], None]:
    """Set a value, however deep."""

    def change(checkpoint: Checkpoint) -> None:
        inner = checkpoint.values
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return change


PROGRESS, OPTIMIZER = "progress", "optimizer.classifier"
GROUP = (OPTIMIZER, "groups", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("model.classifier."), " is missing, and the network's is "),
        (drop("average.classifier."), " is missing, and the network's is "),
        (drop("order.queue"), "does not fit this run"),
        (reshape("model.classifier."), "the checkpoint is of another network"),
        (reshape("average.classifier."), "the checkpoint is of another network"),
        (reshape("optimizer.classifier."), "does not fit this run"),
        (drop("optimizer.classifier.3.exp_avg"), "the optimizer's 'exp_avg' of "),
        (drop_all("optimizer.classifier.3."), "is missing"),
        (put(OPTIMIZER, "scalars", "0.step", value=0), "the optimizer's 'step' of "),
        (put(OPTIMIZER, "scalars", "0.more", value=1), "the optimizer has 'more' of "),
        (put(OPTIMIZER, "without", value=[0]), "the optimizer has '"),
        (put(OPTIMIZER, "without", value="x"), "without is not a list"),
        (add("optimizer.classifier.999.exp_avg"), "it holds the state of parameter 999"),
        (add("optimizer.classifier.0.momentum_buffer"), "the optimizer has 'momentum_buffer' of "),
        (add("optimizer.other.0.exp_avg"), "a tensor 'optimizer.other.0.exp_avg', which the run does not use"),
        (add("order.more"), "a tensor 'order.more', which the run does not use"),
        (put(PROGRESS, "skipped", value=7), "7 of 6 steps were skipped"),
        (put(OPTIMIZER, value={}), "it has no scalars"),
        (put(OPTIMIZER, value=[]), "it is not a mapping"),
        (put(OPTIMIZER, value={"scalars": {}, "groups": []}), "does not fit this run"),
        (put(OPTIMIZER, "scalars", value=[]), "scalars is not a mapping"),
        (put(OPTIMIZER, "scalars", value={"0.exp_avg": "x"}), "0.exp_avg is not a number"),
        (put(OPTIMIZER, "scalars", value={"x": 1}), "does not fit this run"),
        (put(OPTIMIZER, "groups", value={}), "groups is not a list"),
        (put(*GROUP, value=3), "an item of groups is not a mapping"),
        (put(*GROUP, "betas", value=[]), "'betas' was [] and is (0.9, 0.999)"),
        (put(*GROUP, "betas", value=[0.9, 7.0]), "'betas' was [0.9, 7.0] and is (0.9, 0.999)"),
        (put(*GROUP, "betas", value="x"), "'betas' was 'x'"),
        (put(*GROUP, "eps", value=None), "'eps' was None"),
        (put(*GROUP, "lr", value="1"), "lr is not a number"),
        (put(*GROUP, "params", value=[0]), "'params' was [0]"),
        (put(*GROUP, "params", value=7), "params is not a list"),
        (put(PROGRESS, value={"steps": 3}), "it has no step"),
        (put(PROGRESS, value=[]), "it is not a mapping"),
        (put(PROGRESS, value=None), "it is not a mapping"),
        (put(PROGRESS, "step", value="3"), "step is not a whole number"),
        (put(PROGRESS, "step", value=True), "step is not a whole number"),
        (put(PROGRESS, "step", value=-1), "step -1 of 6"),
        (put(PROGRESS, "step", value=7), "step 7 of 6"),
        (put(PROGRESS, "losses", value={}), "losses is not a list"),
        (put(PROGRESS, "losses", value=["x"]), "an item of losses is not a number"),
        (put(PROGRESS, "timings", value=[None]), "an item of timings is not a number"),
        (put(PROGRESS, "timings", value=[]), "with 0 times of steps"),
        (put(PROGRESS, "history", value=[[]]), "an item of history is not a mapping"),
        (put(PROGRESS, "history", value=[]), "the history is empty"),
        (put(PROGRESS, "history", value=[{"step": 3}]), "test_accuracy"),
        (put(PROGRESS, "history", value=[{"test_accuracy": 0.5}]), "it has no step"),
        (put(PROGRESS, "more", value=1), "does not fit this run"),
        (put("recipe", value={}), "holds a run of another recipe"),
        (put("recipe", value=None), "holds a run of another recipe"),
        (put("recipe", value=["task"]), "holds a run of another recipe"),
        (put("recipe", "lr", value=0.1), "another recipe (a recipe has 'lr' elsewhere, as optimizer: {lr: ...})"),
        (put("recipe", "data", value="digits"), "another recipe (data is a section, as data: {name: ...}"),
        (put("recipe", "optimizer", "lr", value=[[["x" * 1000]]]), "holds a run of another recipe"),
        (put("code", value=None), "holds a run of version None"),
        (put("code", value={}), "holds a run of version {}"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(change, message, ended, tmp_path: Path):
    recipe, checkpoint = ended
    checkpoint = copy.deepcopy(checkpoint)
    change(checkpoint)
    save_checkpoint(checkpoint_path(tmp_path, 6), checkpoint)
    with pytest.raises(CheckpointError) as error:
        Trainer(recipe, tmp_path)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert len(str(error.value)) <= LONGEST


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_whatever_is_taken_from_the_optimizer_is_missed_by_name(optimizer, frames, tiny, tmp_path):
    recipe = tiny(steps=2, checkpoint_every=0, evaluate_every=2, optimizer=optimizer, frames=frames)
    run = Trainer(recipe, tmp_path)
    run.run()
    names = [name for name, _ in run.task.players["classifier"].model.named_parameters()]
    (path,) = checkpoints(tmp_path)
    whole = load_checkpoint(path)
    kept = list(whole.part(OPTIMIZER))
    assert {"adam": {"exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}[optimizer] <= {n.split(".")[1] for n in kept}
    for name in kept[::5]:
        index, key = name.split(".")
        tensors = {n: t for n, t in whole.tensors.items() if n != f"{OPTIMIZER}.{name}"}
        save_checkpoint(path, Checkpoint(tensors, whole.values))
        with pytest.raises(CheckpointError, match=f"the optimizer's '{key}' of {names[int(index)]} is missing"):
            Trainer(recipe, tmp_path)
