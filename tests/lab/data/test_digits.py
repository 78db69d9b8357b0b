import sys

import pytest
import torch

from sttp_riemann.lab.data import load_dataset


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_the_digits_are_1797_of_8x8_pixels(digits):
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert (digits.num_classes, digits.channels, digits.image_size) == (10, 1, 8)


def test_a_fifth_of_every_class_is_for_testing(digits):
    test = digits.test_labels.bincount(minlength=10)
    everything = test + digits.train_labels.bincount(minlength=10)
    assert ((test - everything / 5).abs() < 1).all()


def test_no_digit_is_in_both_parts(digits):
    both = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    assert len(both.unique(dim=0)) == 1797


def test_values_span_all_of_uint8(digits):
    assert digits.train_images.dtype == torch.uint8
    assert digits.train_images.unique().tolist() == [(value * 255 + 8) // 16 for value in range(17)]


def test_the_digits_are_scikit_learns(digits):
    published = pytest.importorskip("sklearn.datasets").load_digits()
    expected = torch.from_numpy(published.data * 16).int()
    labelled = {(*row, label) for row, label in zip(expected.tolist(), published.target.tolist(), strict=True)}
    images = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    values = (images.float() * 16 / 255).round().int() * 16
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert {(*row, label) for row, label in zip(values.tolist(), labels.tolist(), strict=True)} == labelled


def test_the_digits_need_no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert len(load_dataset("digits").test_images) == 360
