"""Text as data."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.data.text import FEWEST, LENGTH


def test_the_label_of_a_place_is_the_next_character_of_the_text(tmp_path):
    words = "".join(chr(ord("a") + (7 * i * i + i) % 23) for i in range(3000)) + "é"
    (tmp_path / "mine.txt").write_text(words, encoding="utf-8")
    data = load_dataset(f"text:{tmp_path / 'mine.txt'}")
    known = sorted(set(words))
    assert data.num_classes == len(known)
    inputs, labels = (
        "".join(known[i] for i in torch.cat(parts).flatten().tolist())
        for parts in ((data.train_inputs, data.test_inputs), (data.train_labels, data.test_labels))
    )
    assert inputs == words[: len(inputs)]
    assert labels == words[1 : len(labels) + 1]
    assert data.shape == (LENGTH,)
    assert len(data.test_inputs) == (len(words) - 1) // LENGTH // 10


def test_the_text_that_comes_with_python_is_large_enough_to_learn_from():
    data = load_dataset("text")
    assert len(data.train_inputs) > 5000
    assert 50 < data.num_classes < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a" * FEWEST, "1 different ones"), (b"ab", "has 2 characters"), (b"\xff" * FEWEST, "can't decode")],
)
def test_a_text_that_teaches_nothing_is_refused(content, message, tmp_path):
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_dataset(f"text:{tmp_path / 'mine.txt'}")


def test_a_text_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*no\.txt': give text:FILE"):
        load_dataset(f"text:{tmp_path / 'no.txt'}")


def test_sizes_of_images_are_refused():
    with pytest.raises(ValueError, match="image_size is of images"):
        load_dataset("text", image_size=8)
