"""``arrays:FILE``: arrays of numpy or tensors of torch in one file; damaged and hostile files."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sttp_riemann.lab.data import ArrayData, load_dataset

X = np.random.default_rng(0).normal(size=(20, 3, 5)).astype(np.float32)
Y = np.arange(20) % 4


@pytest.fixture(params=[".npz", ".pt"])
def path(request, tmp_path) -> Path:
    file = tmp_path / f"mine{request.param}"
    if request.param == ".npz":
        np.savez_compressed(file, train_x=X, train_y=Y, test_x=X[:6], test_y=Y[:6])
    else:
        x, y = torch.from_numpy(X), torch.from_numpy(Y)
        torch.save({"train_x": x, "train_y": y, "test_x": x[:6], "test_y": y[:6]}, file)
    return file


def test_arrays_are_read_as_they_are(path):
    data = load_dataset(f"arrays:{path}")
    assert isinstance(data, ArrayData)
    assert (data.shape, data.channels, data.num_classes) == ((3, 5), 3, 4)
    inputs, labels = data.batch([1, 7])
    assert torch.equal(inputs, torch.from_numpy(X[[1, 7]]))
    assert labels.tolist() == [1, 3]
    assert torch.equal(data.batch([5], train=False)[0], torch.from_numpy(X[[5]]))
    assert len(data.test_labels) == 6


def test_another_order_of_bytes_and_of_axes_is_read_right(tmp_path):
    np.savez(tmp_path / "x.npz", train_x=np.asfortranarray(X.astype(">f8")), train_y=Y.astype(">i2"))
    data = load_dataset(f"arrays:{tmp_path / 'x.npz'}")
    kept = np.arange(20) % 5 != 4
    assert torch.equal(data.train_inputs, torch.from_numpy(X[kept]))
    assert data.train_labels.tolist() == Y[kept].tolist()


@pytest.mark.parametrize("option", ["image_size", "channels"])
def test_what_is_of_images_is_refused_with_arrays(path, option):
    with pytest.raises(ValueError, match=f"{option} is of images, and these inputs are arrays: leave it out"):
        load_dataset(f"arrays:{path}", **{option: 3})


@pytest.mark.parametrize("name", ["arrays", "arrays:", "arrays:no.npz", "arrays:x.csv", "arrays:/"])
def test_a_file_that_is_not_there_is_told_of(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"give arrays:FILE, which ends with .npz or .pt"):
        load_dataset(name)


def test_damaged_files_are_refused_and_never_read_as_something_else(path, tmp_path):
    whole, draw = path.read_bytes(), random.Random(0)
    wanted = load_dataset(f"arrays:{path}")
    broken = tmp_path / f"broken{path.suffix}"
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 12)):
        broken.write_bytes(whole[:place])
        with pytest.raises(ValueError, match="broken"):
            load_dataset(f"arrays:{broken}")
    for _ in range(40):
        content = bytearray(whole)
        for _ in range(3):
            content[draw.randrange(len(content))] = draw.randrange(256)
        broken.write_bytes(content)
        try:
            found = load_dataset(f"arrays:{broken}")
        except ValueError as error:
            refused += "\n" not in str(error)
        else:
            assert torch.equal(found.train_inputs, wanted.train_inputs)
            assert torch.equal(found.train_labels, wanted.train_labels)
    assert refused > 30


class _Run:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", train_x=np.array([_Run()] * 5), train_y=Y[:5])
    torch.save({"train_x": _Run(), "train_y": torch.arange(5)}, "x.pt")
    Path("y.pt").write_bytes(pickle.dumps({"train_x": _Run()}))
    for name in ("x.npz", "x.pt", "y.pt"):
        with pytest.raises(ValueError, match=name):
            load_dataset(f"arrays:{name}")
    assert not Path("executed").exists()


def test_a_small_file_that_claims_much_is_refused_before_memory_is_taken(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("train_x.npy", header.getvalue())
        file.writestr("train_y.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"train_x.npy does not hold as many numbers as it says"):
        load_dataset(f"arrays:{tmp_path / 'x.npz'}")
    content = (tmp_path / "x.npz").read_bytes()
    # The archive itself claims that it unpacks to 4 GiB less one byte, twice
    size = struct.pack("<I", len(header.getvalue()))
    (tmp_path / "x.npz").write_bytes(content.replace(size, b"\xfe\xff\xff\xff"))
    with pytest.raises(ValueError, match=r"x.npz"):
        load_dataset(f"arrays:{tmp_path / 'x.npz'}")
    torch.save(
        {"train_x": torch.zeros(1).expand(2**40, 2), "train_y": torch.zeros(1, dtype=torch.int64)}, tmp_path / "x.pt"
    )
    with pytest.raises(ValueError, match=r"its arrays have|claim more numbers"):
        load_dataset(f"arrays:{tmp_path / 'x.pt'}")


@pytest.mark.parametrize("content", [[torch.zeros(3)], {"train_x": [1, 2]}, {1: torch.zeros(2)}, torch.zeros(3)])
def test_a_file_of_torch_holds_a_dictionary_of_tensors(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"it is no dictionary of tensors|it holds '1'"):
        load_dataset(f"arrays:{tmp_path / 'x.pt'}")


def test_texts_and_unknown_names_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", train_x=np.array(["a"] * 5), train_y=Y[:5])
    with pytest.raises(ValueError, match="train_x are <U1: make them uint8"):
        load_dataset(f"arrays:{tmp_path / 'x.npz'}")
    np.savez(tmp_path / "x.npz", images=X, train_y=Y)
    with pytest.raises(ValueError, match="it holds 'images': the names are train_x, train_y, test_x, test_y"):
        load_dataset(f"arrays:{tmp_path / 'x.npz'}")
