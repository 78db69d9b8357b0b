from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.data import load_dataset


@pytest.fixture(scope="module")
def data():
    return load_dataset("stacked_digits:2500")


def test_there_are_as_many_images_as_asked_for_and_a_fifth_to_test():
    for name, count in (("stacked_digits", 20_000), ("stacked_digits:1000", 1000)):
        found = load_dataset(name)
        assert (found.train_images.shape, found.test_images.shape) == ((count, 3, 8, 8), (count // 5, 3, 8, 8))
        assert found.num_classes == 1000


def test_every_mode_is_as_frequent_as_the_others(data):
    counts = data.train_labels.bincount(minlength=1000)
    assert set(counts.tolist()) == {2, 3}


def test_each_channel_is_a_shipped_digit_of_its_part_and_class(data):
    digits = load_dataset("digits")
    parts = (
        (data.train_images, data.train_labels, digits.train_images, digits.train_labels),
        (data.test_images, data.test_labels, digits.test_images, digits.test_labels),
    )
    for images, modes, known, classes in parts:
        there = {}
        for image, label in zip(known.flatten(1).tolist(), classes.tolist(), strict=True):
            there.setdefault(tuple(image), set()).add(label)
        for image, mode in zip(images[:300].flatten(2).tolist(), modes[:300].tolist(), strict=True):
            for channel, digit in zip(image, (mode // 100, mode // 10 % 10, mode % 10), strict=True):
                assert digit in there[tuple(channel)]


def test_all_digits_of_the_data_are_used(data):
    digits = load_dataset("digits").train_images.flatten(1)
    assert len(data.train_images.flatten(0, 1).flatten(1).unique(dim=0)) > 0.98 * len(digits.unique(dim=0))


def test_channels_are_drawn_apart_from_each_other(data):
    a, b, c = data.train_images.flatten(2).float().sub(78).unbind(1)
    for one, two in ((a, b), (b, c), (a, c)):
        shuffled = (one * two[torch.randperm(len(two))]).mean()
        assert (one * two).mean().item() == pytest.approx(shuffled.item(), rel=0.05)


@pytest.mark.parametrize("count", ["999", "1000001", "-5000", "2e4", "many", "٢٠٠٠", "9" * 5000])
def test_a_number_of_images_that_cannot_be_is_refused(count):
    with pytest.raises(ValueError, match=r"stacked_digits:N needs a number of images from 1,000 to 1,000,000, not"):
        load_dataset(f"stacked_digits:{count}")
