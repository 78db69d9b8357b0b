from __future__ import annotations

import errno
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sttp_riemann.errors import CheckpointError
from sttp_riemann.lab.training.checkpoint import (
    FORMAT,
    Checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
    write_atomically,
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    checkpoint = Checkpoint(values={"step": 3, "losses": [0.1, 1 / 3], "nested": {"none": None}})
    checkpoint.add("model", {"w": torch.arange(6.0).view(2, 3).T, "n": torch.tensor(2)})
    return checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.safetensors"


def test_tensors_and_values_come_back_as_they_were(checkpoint, path):
    save_checkpoint(path, checkpoint)
    found = load_checkpoint(path)
    assert found.values == checkpoint.values
    assert found.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in checkpoint.tensors.items())


def test_tensors_that_share_memory_are_kept(path):
    shared = torch.ones(3)
    save_checkpoint(path, Checkpoint({"a": shared, "b": shared[1:]}))
    assert load_checkpoint(path).tensors["b"].tolist() == [1, 1]


def test_a_part_is_what_was_added_under_its_name(checkpoint):
    checkpoint.add("model2", {"w": torch.zeros(1)})
    assert checkpoint.part("model").keys() == {"w", "n"}


def test_nothing_but_the_checkpoint_stays_in_the_folder(checkpoint, path):
    save_checkpoint(path, checkpoint)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_previous_file_and_says_what_to_do(call, code, path, monkeypatch):
    write_atomically(path, b"previous")

    def full(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CheckpointError, match="is intact; the disk is full: free some space") as error:
        write_atomically(path, b"next")
    assert str(path) in str(error.value)
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"previous"]


def test_a_file_that_the_system_cuts_off_leaves_the_previous_one(checkpoint, path):
    save_checkpoint(path, checkpoint)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CheckpointError, match="the disk is full"):
            save_checkpoint(path, Checkpoint({"large": torch.zeros(10_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path).values == checkpoint.values


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match=r"could not write .*run/checkpoint"):
        write_atomically(tmp_path / "run" / "checkpoint", b"")


def test_a_missing_checkpoint_is_named(path):
    with pytest.raises(CheckpointError, match=f"there is no checkpoint {path}"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_truncated_checkpoint_is_refused(length, checkpoint, path):
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=f"{path} is truncated or not a safetensors file"):
        load_checkpoint(path)


def test_a_foreign_safetensors_file_is_refused(path):
    path.parent.mkdir()
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=f"{path} is not of this package's version: no format"):
        load_checkpoint(path)


@pytest.mark.parametrize("values", [None, "{", "[1]", "3"])
def test_values_that_are_no_json_mapping_are_refused(values, path, checkpoint):
    path.parent.mkdir()
    metadata = {"format": FORMAT, **({} if values is None else {"values": values})}
    save_file({"w": torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError, match=str(path)):
        load_checkpoint(path)


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("write", [lambda o, p: p.write_bytes(pickle.dumps(o)), torch.save])
def test_a_pickle_is_refused_and_not_executed(write, tmp_path):
    trace, path = tmp_path / "executed", tmp_path / "checkpoint.safetensors"
    write(Malicious(trace), path)
    with pytest.raises(CheckpointError, match=f"{path} is truncated or not a safetensors file"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("bias"),
            "'bias' is missing, and the network's is 2 float32: the checkpoint is of another network",
        ),
        (
            lambda t: t.update(more=torch.zeros(1)),
            "'more' is 1 float32, and the network's is missing: the checkpoint is of another network",
        ),
        (
            lambda t: t.update(weight=torch.zeros(3, 2)),
            "'weight' is 3x2 float32, and the network's is 2x3 float32",
        ),
        (
            lambda t: t.update(bias=t["bias"].double()),
            "'bias' is 2 float64, and the network's is 2 float32",
        ),
    ],
)
def test_tensors_of_another_network_are_refused_and_none_is_loaded(change, message, path):
    model = nn.Linear(3, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    change(tensors)
    with pytest.raises(CheckpointError) as error:
        load_model(model, tensors, path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
