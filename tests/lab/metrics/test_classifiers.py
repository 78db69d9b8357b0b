from __future__ import annotations

import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sttp_riemann.lab.data import fashion_mnist, load_dataset
from sttp_riemann.lab.data.fashion_mnist import SIDE, TEST, TRAIN
from sttp_riemann.lab.metrics import classifiers
from sttp_riemann.lab.metrics.classifiers import KINDS, Classifier, load_classifier
from sttp_riemann.lab.metrics.errors import MetricError
from sttp_riemann.sealed import digest

FILE = KINDS["digits"].file


def brief(monkeypatch):
    """Train for one epoch only."""
    monkeypatch.setitem(KINDS, "digits", replace(KINDS["digits"], epochs=1))


def test_the_classifier_tells_digits():
    data = load_dataset("digits")
    images, labels = data.batch(range(len(data.test_images)), train=False)
    assert float((load_classifier()(images)[1].argmax(1) == labels).float().mean()) > 0.97


def test_it_is_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path))
    brief(monkeypatch)
    first = load_classifier()
    assert (tmp_path / FILE).is_file()
    monkeypatch.setattr(classifiers, "train_classifier", None)
    assert digest(load_classifier().state_dict()) == digest(first.state_dict())


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [lambda content: content[:100], flip, lambda content: pickle.dumps([])])
def test_a_damaged_file_in_the_cache_is_replaced(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path))
    brief(monkeypatch)
    first = digest(load_classifier().state_dict())
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    assert digest(load_classifier().state_dict()) == first
    monkeypatch.setattr(classifiers, "train_classifier", None)
    assert digest(load_classifier().state_dict()) == first


def test_a_file_that_was_named_is_read_and_never_written(tmp_path):
    path = tmp_path / "mine.safetensors"
    model = Classifier(KINDS["digits"])
    save_file(model.state_dict(), path)
    assert digest(load_classifier("digits", path).state_dict()) == digest(model.state_dict())
    path.write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"mine.safetensors cannot be read as the weights of the classifier of digits"):
        load_classifier("digits", path)
    assert path.read_bytes() == b"precious"


def test_a_folder_that_cannot_be_written_to_costs_only_the_cache(tmp_path, monkeypatch):
    brief(monkeypatch)
    (tmp_path / "file").touch()
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path / "file"))
    assert isinstance(load_classifier(), torch.nn.Module)


def test_training_leaves_the_random_state_alone(monkeypatch):
    brief(monkeypatch)
    state = torch.get_rng_state()
    classifiers.train_classifier(KINDS["digits"])
    assert torch.equal(state, torch.get_rng_state())


def test_images_of_other_sizes_become_digits():
    small = load_dataset("digits").test_images[:4].expand(-1, 3, -1, -1)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    classifier = load_classifier()
    torch.testing.assert_close(classifier.of_gray(large), classifier.of_gray(small))
    assert classifier.of_gray(small[:, :, :4, :4])[0].shape == (4, 64)


def test_colors_are_refused():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[0, 1] = 255
    with pytest.raises(
        MetricError, match=r"the classifier of digits sees gray images, and these have colors: set chan"
    ):
        Classifier(KINDS["digits"]).of_gray(images)


@pytest.fixture
def tiny_fashion(tmp_path):
    """A folder with Fashion-MNIST's files, of black images and of white ones."""
    folder = tmp_path / "data"
    folder.mkdir()
    for (images, labels), count in ((TRAIN, 400), (TEST, 20)):
        of = np.arange(count) % 2
        pixels = np.repeat(255 * of.astype(np.uint8), SIDE * SIDE).tobytes()
        (folder / images).write_bytes(struct.pack(">4i", 2051, count, SIDE, SIDE) + pixels)
        (folder / labels).write_bytes(struct.pack(">2i", 2049, count) + of.astype(np.uint8).tobytes())
    return folder


def test_that_of_fashion_mnist_is_trained_on_its_data(tiny_fashion, tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path / "cache"))
    classifier = load_classifier("fashion_mnist", root=tiny_fashion)
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    assert [int(classifier.of_gray(images)[1].argmax()) for images in (0 * white, white)] == [0, 1]
    monkeypatch.setattr(classifiers, "train_classifier", None)
    assert digest(load_classifier("fashion_mnist").state_dict()) == digest(classifier.state_dict())


def test_without_its_data_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "_folder", lambda request: None)
    with pytest.raises(MetricError, match=r"extractor 'fashion_mnist' is trained on data that cannot be read: .*"):
        load_classifier("fashion_mnist", root=tmp_path)
