from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sttp_riemann.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sttp_riemann.training.errors import CheckpointError
from sttp_riemann.training.loop import Trainer
from sttp_riemann.training.storage import checkpoints


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


def drop(prefix: str) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        name = next(name for name in checkpoint.tensors if name.startswith(prefix))
        del checkpoint.tensors[name]

    return change


def reshape(prefix: str) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        name = next(n for n, t in checkpoint.tensors.items() if n.startswith(prefix) and t.ndim > 1)
        checkpoint.tensors[name] = checkpoint.tensors[name][..., :-1]

    return change


def put(key: str, value: object) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: checkpoint.values.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("model.classifier."), "lacks "),
        (drop("average.classifier."), "lacks "),
        (drop("order.queue"), "does not fit this run"),
        (reshape("model.classifier."), "the checkpoint is of another network"),
        (reshape("average.classifier."), "the checkpoint is of another network"),
        (reshape("optimizer.classifier."), "does not fit this run"),
        (put("optimizer.classifier", {}), "does not fit this run"),
        (put("optimizer.classifier", {"scalars": {}, "groups": []}), "does not fit this run"),
        (put("progress", {"steps": 3}), "does not fit this run"),
        (put("progress", []), "does not fit this run"),
        (put("recipe", {}), "holds a run of another recipe"),
        (put("recipe", None), "holds a run of another recipe"),
        (put("code", None), "holds a run of version None"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(change, message, tiny, tmp_path: Path):
    recipe = tiny(ema=0.5)
    Trainer(recipe, tmp_path).run()
    (path,) = checkpoints(tmp_path)
    checkpoint = load_checkpoint(path)
    change(checkpoint)
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError) as error:
        Trainer(recipe, tmp_path)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
