from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from sttp_riemann.lab.data import load_dataset

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def folder(tmp_path, write_fashion_mnist):
    return write_fashion_mnist(tmp_path / "here")


def gunzip(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def test_images_and_labels_are_those_of_the_files(folder):
    data = load_dataset("fashion_mnist", folder)
    content = gzip.decompress((folder / f"{IMAGES}.gz").read_bytes())
    stored = np.frombuffer(content, np.uint8, offset=16).reshape(20, 1, 28, 28)
    assert torch.equal(data.train_images, torch.from_numpy(stored.copy()))
    assert data.train_labels.tolist() == [*gzip.decompress((folder / f"{LABELS}.gz").read_bytes())[8:]]
    assert (len(data.test_images), data.num_classes, data.channels, data.image_size) == (10, 10, 1, 28)


def test_plain_files_give_what_compressed_ones_do(folder):
    packed = load_dataset("fashion_mnist", folder)
    for path in list(folder.iterdir()):
        gunzip(path)
    plain = load_dataset("fashion_mnist", folder)
    assert torch.equal(plain.train_images, packed.train_images)
    assert torch.equal(plain.test_labels, packed.test_labels)


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "share/datasets/fashion-mnist"])
def test_the_folders_of_torchvision_and_of_debians_package_are_found(place, tmp_path, write_fashion_mnist, monkeypatch):
    write_fashion_mnist(tmp_path / place)
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path / 'none'}:{tmp_path / 'share'}")
    assert len(load_dataset("fashion_mnist", tmp_path).train_images) == 20


def test_the_folder_that_was_named_comes_before_debians_package(folder, tmp_path, write_fashion_mnist, monkeypatch):
    write_fashion_mnist(tmp_path / "share" / "datasets" / "fashion-mnist", seed=1)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    named, packaged = (load_dataset("fashion_mnist", root) for root in (folder, tmp_path / "none"))
    assert not torch.equal(named.train_images, packaged.train_images)


def test_torchvision_is_not_needed_to_read_files(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert len(load_dataset("fashion_mnist", folder).train_images) == 20


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    return tmp_path / "data"


def test_files_that_are_missing_are_one_line_with_every_remedy(nowhere, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "download", lambda self: pytest.fail("downloaded"))
    with pytest.raises(FileNotFoundError, match=r"dataset-fashion-mnist.*data_root.*--download true") as error:
        load_dataset("fashion_mnist", nowhere)
    assert str(nowhere) in str(error.value)


def test_missing_files_are_downloaded_when_asked(nowhere, monkeypatch, write_fashion_mnist):
    def download(self):
        for path in list(write_fashion_mnist(nowhere / "FashionMNIST" / "raw").iterdir()):
            gunzip(path)

    monkeypatch.setattr(FashionMNIST, "download", download)
    monkeypatch.setattr(FashionMNIST, "_load_data", lambda self: (torch.zeros(1), torch.zeros(1)))
    assert len(load_dataset("fashion_mnist", nowhere, download=True).train_images) == 20


def test_a_download_that_fails_is_told_of(nowhere, monkeypatch):
    def download(self):
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(FashionMNIST, "download", download)
    with pytest.raises(OSError, match="fashion_mnist cannot be downloaded: Error downloading"):
        load_dataset("fashion_mnist", nowhere, download=True)


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: b"", lambda content: content[::-1]])
@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_file_is_named(folder, damage, packed):
    path = folder / f"{IMAGES}.gz"
    if not packed:
        gunzip(path)
        path = path.with_suffix("")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path.name} is not the published file: get it anew"):
        load_dataset("fashion_mnist", folder)


def test_files_that_do_not_belong_together_are_refused(folder):
    (folder / f"{LABELS}.gz").write_bytes((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(ValueError, match=f"{IMAGES} and {LABELS} in .* do not belong together"):
        load_dataset("fashion_mnist", folder)


def test_a_recipe_trains_on_54000_and_chooses_by_6000_whatever_the_seed(monkeypatch, write_fashion_mnist, tmp_path):
    from sttp_riemann.lab import recipes
    from sttp_riemann.lab.training.classify import Classification
    from sttp_riemann.lab.training.machine import build_accelerator
    from sttp_riemann.lab.training.recipe import Recipe

    write_fashion_mnist(tmp_path, train=600)
    recipe = Recipe.from_dict(recipes.read("fashion")).changed(data_root=str(tmp_path))
    one, other = (Classification(run, build_accelerator(run)) for run in (recipe, recipe.changed(seed=7)))
    assert (len(one._kept), len(one._held)) == (540, 60)
    assert torch.equal(one._held, other._held)
    assert not set(one._held.tolist()) & set(one._kept.tolist())
