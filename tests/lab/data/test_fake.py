import pytest
import torch

from sttp_riemann.lab.data import load_dataset


def test_the_images_are_the_same_every_time():
    first, second = load_dataset("fake", image_size=8), load_dataset("fake", image_size=8)
    assert torch.equal(first.train_images, second.train_images)
    assert torch.equal(first.test_images, second.test_images)


def test_the_size_is_the_one_asked_for_and_32_otherwise():
    assert load_dataset("fake", image_size=12).train_images.shape[1:] == (3, 12, 12)
    assert load_dataset("fake").train_images.shape[1:] == (3, 32, 32)


def test_every_class_is_in_either_part():
    data = load_dataset("fake", image_size=4)
    assert set(data.train_labels.tolist()) == set(data.test_labels.tolist()) == set(range(10))


def test_noise_that_would_not_fit_into_memory_is_refused():
    with pytest.raises(ValueError, match="image_size must be at most 1024 for images of noise, got 4096"):
        load_dataset("fake", image_size=4096)
