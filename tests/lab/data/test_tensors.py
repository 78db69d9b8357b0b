"""What tensors of the user's own must be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from sttp_riemann.lab.data.source import IGNORED, ArraySource, Source
from sttp_riemann.lab.data.tensors import source_of

CLASSES = torch.arange(10) % 3


@given(array_shapes(max_dims=4, max_side=4), st.sampled_from([torch.float16, torch.float32, torch.float64]))
@settings(max_examples=20, deadline=None)
def test_floats_of_any_shape_are_inputs_as_they_are(shape, dtype):
    x = torch.randn(10, *shape).to(dtype)
    found = source_of({"train_x": x, "train_y": CLASSES, "test_x": x[:4], "test_y": CLASSES[:4]})
    assert isinstance(found, ArraySource)
    assert torch.equal(found.train_inputs, x.float())
    assert torch.equal(found.test_inputs, x[:4].float())
    assert found.train_inputs.dtype == torch.float32
    assert found.num_classes == 3


@pytest.mark.parametrize("shape", [(10, 4), (10, 2, 3)])
def test_whole_numbers_of_further_axes_are_classes_of_places(shape):
    y = torch.randint(5, shape)
    y[0].view(-1)[0], y[:, ..., -1] = 4, IGNORED
    found = source_of({"train_x": torch.zeros(10, 7), "train_y": y.int(), "test_x": torch.zeros(3, 7), "test_y": y[:3]})
    assert torch.equal(found.train_labels, y)
    assert torch.equal(found.test_labels, y[:3])
    assert found.num_classes == 5


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (torch.zeros(10, 4).long() - 1, None, "go from -1 to -1.*-100 marks a place that has none"),
        (torch.full((10, 4), IGNORED), None, "train_y have an example without a class: leave it out"),
        (torch.arange(40).view(10, 4), torch.zeros(10, 3).long(), "make them alike"),
        (torch.zeros(10, 0).long(), None, r"labels are integers \(N,\), classes from 0, or \(N, ...\) of places"),
    ],
)
def test_labels_of_places_that_cannot_be_are_refused_in_one_line(train, test, message):
    x = torch.zeros(10, 4)
    with pytest.raises(ValueError, match=message):
        source_of({"train_x": x, "train_y": train, **({} if test is None else {"test_x": x, "test_y": test})})


def test_whole_numbers_are_indices():
    found = source_of({"train_x": torch.arange(30, dtype=torch.int32).view(10, 3), "train_y": CLASSES})
    assert found.train_inputs.dtype == torch.int64


@pytest.mark.parametrize("shape", [(10, 6, 6), (10, 1, 6, 6), (10, 3, 6, 6)])
def test_bytes_are_images(shape):
    x = torch.randint(256, shape, dtype=torch.uint8)
    found = source_of({"train_x": x, "train_y": CLASSES.to(torch.uint8)})
    assert isinstance(found, Source)
    kept = torch.arange(10) % 5 != 4
    assert torch.equal(found.train_images, x.view(10, -1, 6, 6)[kept])
    assert found.train_labels.dtype == torch.int64


def test_every_fifth_example_is_for_testing_where_no_test_part_is_given():
    x = torch.arange(12.0).view(12, 1)
    found = source_of({"train_x": x, "train_y": torch.arange(12) % 2})
    assert found.test_inputs.flatten().tolist() == [4, 9]
    assert found.test_labels.tolist() == [0, 1]
    assert found.train_inputs.flatten().tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]
    assert len(found.train_labels) == 10


@pytest.mark.parametrize("shape", [(10,), (10, 1), (10, 3)])
def test_floats_as_labels_are_of_a_regression(shape):
    y = torch.randn(shape, dtype=torch.float64)
    found = source_of({"train_x": torch.zeros(10, 2), "train_y": y, "test_x": torch.zeros(4, 2), "test_y": y[:4]})
    assert torch.equal(found.train_labels, y.float().view(10, -1))
    assert torch.equal(found.test_labels, y.float().view(10, -1)[:4])
    assert found.num_classes == found.train_labels.shape[1]


X = torch.randn(10, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_y": None}, "there is no train_y"),
        ({"test_x": X}, "there is no test_y"),
        ({"text_x": X}, "'text_x' is not one of train_x, train_y, test_x, test_y"),
        ({"train_y": CLASSES[:9]}, "train_x has 10 examples and train_y 9"),
        ({"train_x": X[:0], "train_y": CLASSES[:0]}, "train_x has 0 examples"),
        ({"train_x": X[:4], "train_y": CLASSES[:4]}, "train_x has 4 examples: 5 are the fewest"),
        ({"train_x": X[:, 0]}, r"train_x are float32 \(10,\): inputs are \(N, ...\)"),
        ({"train_x": X > 0}, "train_x are bool"),
        ({"train_x": torch.zeros(10, 2, dtype=torch.complex64)}, "train_x are complex64"),
        ({"train_x": X * torch.nan}, "train_x have numbers that are not finite"),
        ({"train_x": X.double() + 1e300}, "train_x have numbers that are not finite in float32"),
        ({"train_x": torch.zeros(10, 6, 7, dtype=torch.uint8)}, r"uint8 is for images \(N, H, H\)"),
        ({"train_x": torch.zeros(10, 8, 8, 3, dtype=torch.uint8)}, r"uint8 is for images \(N, H, H\)"),
        ({"train_y": CLASSES[:, None]}, r"train_y are int64 \(10, 1\): labels are integers \(N,\), classes from 0"),
        ({"test_x": X, "test_y": X}, r"train_y are int64 \(10,\) and test_y float32 \(10, 2\): make them alike"),
        ({"train_y": X / 0}, "train_y have numbers that are not finite"),
        ({"train_y": X[:, :0]}, "or floats"),
        ({"train_y": CLASSES - 1}, "train_y go from -1 to 1: classes are numbered from 0"),
        ({"train_y": CLASSES * 2**40}, "classes are numbered from 0, at most 65,536"),
        ({"train_y": CLASSES * 0}, "one class only"),
        ({"test_x": X[:, :1], "test_y": CLASSES}, r"train_x are float32 \(10, 2\) and test_x float32 \(10, 1\)"),
    ],
)
def test_anything_else_is_refused_by_name(changes, message):
    tensors = {"train_x": X, "train_y": CLASSES, **changes}
    with pytest.raises(ValueError, match=message):
        source_of({name: t for name, t in tensors.items() if t is not None})
