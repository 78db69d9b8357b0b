from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.metrics import digits_classifier
from sttp_riemann.lab.metrics.digits_classifier import FILE, as_digits, load_classifier
from sttp_riemann.sealed import digest


def test_the_classifier_tells_digits():
    data = load_dataset("digits")
    images, labels = data.batch(range(len(data.test_images)), train=False)
    assert float((load_classifier()(images)[1].argmax(1) == labels).float().mean()) > 0.97


def test_it_is_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path))
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    first = load_classifier()
    assert (tmp_path / FILE).is_file()
    monkeypatch.setattr(digits_classifier, "train_classifier", None)
    assert digest(load_classifier().state_dict()) == digest(first.state_dict())


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [lambda content: content[:100], flip, lambda content: pickle.dumps([])])
def test_a_damaged_file_in_the_cache_is_replaced(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path))
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    first = digest(load_classifier().state_dict())
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    assert digest(load_classifier().state_dict()) == first
    monkeypatch.setattr(digits_classifier, "train_classifier", None)
    assert digest(load_classifier().state_dict()) == first


def test_a_file_that_was_named_is_read_and_never_written(tmp_path):
    path = tmp_path / "mine.safetensors"
    model = digits_classifier.DigitsClassifier()
    save_file(model.state_dict(), path)
    assert digest(load_classifier(path).state_dict()) == digest(model.state_dict())
    path.write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"mine.safetensors cannot be read as the weights of the digits classifier"):
        load_classifier(path)
    assert path.read_bytes() == b"precious"


def test_a_folder_that_cannot_be_written_to_costs_only_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path / "file"))
    assert isinstance(load_classifier(), torch.nn.Module)


def test_training_leaves_the_random_state_alone(monkeypatch):
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    state = torch.get_rng_state()
    digits_classifier.train_classifier()
    assert torch.equal(state, torch.get_rng_state())


def test_images_of_other_sizes_become_digits():
    small = load_dataset("digits").test_images[:4].expand(-1, 3, -1, -1)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(as_digits(large), as_digits(small))
    assert as_digits(small[:, :, :4, :4]).shape == (4, 1, 8, 8)
