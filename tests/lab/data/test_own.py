"""Data sets of torch that a function of the user's own gives."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import plugins
from sttp_riemann.lab.data import ArrayData, ImageData, load_dataset

DATA = """
    import numpy as np
    import torch
    from torch.utils.data import Dataset, IterableDataset, TensorDataset

    class Pairs(Dataset):
        def __init__(self, size, example):
            self.size, self.example = size, example
        def __len__(self):
            return self.size
        def __getitem__(self, k):
            return self.example(k)

    def both():
        x, y = torch.arange(24.0).view(12, 2), torch.arange(12) % 3
        return TensorDataset(x, y), TensorDataset(x[:4], y[:4])

    def one():
        return Pairs(2000, lambda k: (np.full((1, 6, 6), k % 256, dtype=np.uint8), k % 2))

    def stream():
        class Stream(IterableDataset):
            def __iter__(self):
                yield torch.zeros(2), 0
        return Stream()

    def mappings():
        return Pairs(8, lambda k: {"x": torch.zeros(2), "y": 0})

    def nested():
        return Pairs(8, lambda k: ({"x": torch.zeros(2)}, 0))

    def growing():
        return Pairs(8, lambda k: (torch.zeros(k + 1), 0))

    def three():
        return one(), one(), one()

    def words():
        return Pairs(8, lambda k: ("text", k))

    def nothing():
        return Pairs(0, lambda k: (torch.zeros(2), 0))

    def broken():
        raise KeyError("no such file")

    def with_arguments(root):
        return one()
"""


def test_a_training_and_a_test_set_are_read_into_memory(own):
    own(mydata=DATA)
    plugins.import_named(["mydata:both"])
    data = load_dataset("mydata:both")
    assert isinstance(data, ArrayData)
    assert torch.equal(data.train_inputs, torch.arange(24.0).view(12, 2))
    assert data.test_labels.tolist() == [0, 1, 2, 0]


def test_of_one_set_of_images_every_fifth_is_for_testing(own):
    own(mydata=DATA)
    plugins.import_modules(["mydata"])
    data = load_dataset("mydata:one", image_size=3, channels=3)
    assert isinstance(data, ImageData)
    assert (len(data.train_labels), len(data.test_labels), data.shape) == (1600, 400, (3, 3, 3))
    assert data.test_images[:3, 0, 0, 0].tolist() == [4, 9, 14]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stream", "its train part is a Stream: a torch Dataset with a length is wanted"),
        ("mappings", "an example is a dict, not a pair of input and label"),
        ("nested", "inputs are a dict, not tensors"),
        ("growing", "its train examples cannot be stacked: stack expects each tensor to be equal size"),
        ("words", "inputs are a list, not tensors|inputs are a tuple, not tensors"),
        ("three", "it gives 3 things"),
        ("nothing", "its train part has no examples"),
        ("broken", "it raises KeyError: 'no such file'"),
        ("with_arguments", "it raises TypeError"),
        ("Stream", "module mydata has no Stream"),
    ],
)
def test_what_cannot_be_stacked_is_one_line(own, name, message):
    own(mydata=DATA)
    plugins.import_modules(["mydata"])
    with pytest.raises(ValueError, match=message):
        load_dataset(f"mydata:{name}")


def test_no_module_is_imported_because_a_file_names_it(own):
    own(mydata=DATA)
    with pytest.raises(RecipeError, match="mydata was not imported, and the word of a file does not import it"):
        load_dataset("mydata:one")
