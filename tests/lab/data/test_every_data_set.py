"""What holds of every data set of images that has a row: a new one inherits these."""

import numpy as np
import pytest
import torch
from PIL import Image

from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.data.registry import DATASETS

ON_DISK = {"cifar10": "cifar10", "stl10": "stl10", "stl10-unlabeled": "stl10", "fashion_mnist": "fashion_mnist"}
"""Rows that read files, and the fixtures that write small ones."""


@pytest.fixture(params=[name for name in DATASETS if name != "text"])
def load(request, tmp_path):
    """Load one row, with whatever it reads in place."""
    name, fixture = request.param, ON_DISK.get(request.param)
    if fixture:
        folder = request.getfixturevalue(f"write_{fixture}")(tmp_path)
        request.getfixturevalue(f"publish_{fixture}")(folder)
    if name == "folder":
        rng = np.random.default_rng(0)
        for part, label, k in ((p, c, k) for p in ("train", "val") for c in ("cat", "dog") for k in range(3)):
            (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / label / f"{k}.png")
        name = f"folder:{tmp_path}"
    if name == "arrays":
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (20, 12, 12), dtype=np.uint8), np.arange(20) % 2
        np.savez(tmp_path / "mine.npz", train_x=images, train_y=labels)
        name = f"arrays:{tmp_path / 'mine.npz'}"
    return lambda **options: load_dataset(name, root=tmp_path, **options)


def test_images_are_bytes_and_labels_are_classes(load):
    data = load()
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert images.dtype == torch.uint8
        assert images.ndim == 4
        assert images.shape[2] == images.shape[3]
        assert labels.dtype == torch.int64
        assert len(labels) == len(images) > 0
        wanted = range(data.num_classes) if data.num_classes else (-1,)
        assert set(labels.tolist()) <= set(wanted)


def test_it_is_the_same_each_time(load):
    one, two = load(), load()
    assert torch.equal(one.train_images, two.train_images)
    assert torch.equal(one.train_labels, two.train_labels)
    assert torch.equal(one.test_images, two.test_images)


def test_size_and_channels_are_as_asked_for(load):
    data = load(image_size=16, channels=3)
    images, labels = data.batch([0, 1])
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.float32
    assert bool(images.isfinite().all())
    assert len(labels) == 2
