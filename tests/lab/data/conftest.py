"""Tiny data sets in the formats that the real ones have on disk."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
from torchvision import datasets

PER_FILE = 4


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def _pickle(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def write_cifar10():
    """Write a small CIFAR-10, with the channel-first rows of 3,072 bytes that the python version has."""

    def write(root):
        folder, rng = root / "cifar-10-batches-py", np.random.default_rng(0)
        folder.mkdir(parents=True, exist_ok=True)
        for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
            pixels = rng.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
            labels = rng.integers(0, 10, PER_FILE).tolist()
            files = [f"image_{k}.png" for k in range(PER_FILE)]
            _pickle(folder / name, {"batch_label": name, "labels": labels, "data": pixels, "filenames": files})
        names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        _pickle(folder / "batches.meta", {"num_cases_per_batch": PER_FILE, "label_names": names, "num_vis": 3072})
        return folder

    return write


@pytest.fixture
def publish_cifar10(monkeypatch):
    """Let torchvision take the checksums of these files for the published ones."""

    def publish(folder):
        for attribute in ("train_list", "test_list"):
            listed = [[name, _md5(folder / name)] for name, _ in getattr(datasets.CIFAR10, attribute)]
            monkeypatch.setattr(datasets.CIFAR10, attribute, listed)
        meta = {**datasets.CIFAR10.meta, "md5": _md5(folder / "batches.meta")}
        monkeypatch.setattr(datasets.CIFAR10, "meta", meta)

    return publish


@pytest.fixture
def write_stl10():
    """Write a small STL-10: bytes by image, channel, column, row; labels from 1."""

    def write(root):
        folder, rng = root / "stl10_binary", np.random.default_rng(0)
        folder.mkdir(parents=True)
        for part, count in (("train", 5), ("test", 3), ("unlabeled", 6)):
            rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{part}_X.bin")
        np.array([1, 10, 2, 9, 3], dtype=np.uint8).tofile(folder / "train_y.bin")
        np.array([4, 5, 6], dtype=np.uint8).tofile(folder / "test_y.bin")
        return folder

    return write


@pytest.fixture
def publish_stl10(monkeypatch):
    """Let torchvision take the checksums of these files for the published ones."""

    def publish(folder):
        for attribute in ("train_list", "test_list"):
            listed = [[name, _md5(folder / name)] for name, _ in getattr(datasets.STL10, attribute)]
            monkeypatch.setattr(datasets.STL10, attribute, listed)

    return publish


@pytest.fixture
def write_fashion_mnist():
    """Write a small Fashion-MNIST: idx files, compressed as they are published."""

    def write(folder, seed=0, train=20):
        rng = np.random.default_rng(seed)
        folder.mkdir(parents=True, exist_ok=True)
        for part, count in (("train", train), ("t10k", 10)):
            images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            for name, values in (("images", images), ("labels", np.arange(count, dtype=np.uint8) % 10)):
                header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
                file = folder / f"{part}-{name}-idx{values.ndim}-ubyte.gz"
                file.write_bytes(gzip.compress(header + values.tobytes()))
        return folder

    return write


@pytest.fixture
def publish_fashion_mnist():
    """Nothing but their form tells published idx files from others."""
    return lambda folder: None
