from __future__ import annotations

import torch

from sttp_riemann.data import load_dataset
from sttp_riemann.metrics import digits_classifier
from sttp_riemann.metrics.digits_classifier import FILE, as_digits, digest, load_classifier
from sttp_riemann.metrics.digits_classifier import test_accuracy as accuracy


def test_the_classifier_tells_digits():
    assert accuracy(load_classifier(), load_dataset("digits")) > 0.97


def test_it_is_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path))
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    first = load_classifier()
    assert (tmp_path / FILE).is_file()
    monkeypatch.setattr(digits_classifier, "train_classifier", None)
    assert digest(load_classifier()) == digest(first)


def test_a_damaged_file_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    path = tmp_path / "classifier.safetensors"
    first = digest(load_classifier(path))
    path.write_bytes(path.read_bytes()[:100])
    assert digest(load_classifier(path)) == first
    assert len(path.read_bytes()) > 100


def test_a_folder_that_cannot_be_written_to_costs_only_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_classifier, "EPOCHS", 1)
    (tmp_path / "file").touch()
    assert isinstance(load_classifier(tmp_path / "file" / "weights"), torch.nn.Module)


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
