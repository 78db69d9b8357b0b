"""Tensors of the user's own as a data set: what they must be, and the test part where there is none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sttp_riemann.lab.data.source import IGNORED, ArraySource, Source

NAMES = ("train_x", "train_y", "test_x", "test_y")
"""Names of inputs and labels; without the last two, every fifth example is for testing."""
EVERY = 5
MOST_CHANNELS = 64
MOST_CLASSES = 2**16
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def source_of(found: Mapping[str, Tensor]) -> Source | ArraySource:
    """Make a data set of tensors.

    Parameters
    ----------
    found : mapping
        By `NAMES`. Inputs ``x`` of uint8, (N, H, H) or (N, C, H, H), are images. Other integers, (N, ...), are indices,
        and floats, (N, ...), are inputs as they are, in float32. Labels ``y`` are integers, classes from 0, (N,) or
        (N, ...) of places, where `IGNORED` is none; or floats, (N,) or (N, k), of a regression, all in float32 (N, k).

    Returns
    -------
    Source or ArraySource
        The former for images.

    Raises
    ------
    ValueError
        A tensor is missing, or is not as above; the message names it.
    """
    for name in found:
        if name not in NAMES:
            raise ValueError(f"{name!r} is not one of {', '.join(NAMES)}")
    for name in NAMES[: 4 if "test_x" in found or "test_y" in found else 2]:
        if name not in found:
            raise ValueError(f"there is no {name}: the names are {', '.join(NAMES)}")
    tensors = {name: _inputs(name, t) if name.endswith("x") else _labels(name, t) for name, t in found.items()}
    for part in ("train", "test")[: len(found) // 2]:
        x, y = tensors[f"{part}_x"], tensors[f"{part}_y"]
        if len(x) != len(y) or not len(x):
            raise ValueError(f"{part}_x has {len(x)} examples and {part}_y {len(y)}: both need as many, and not 0")
    if "test_x" not in tensors:
        tensors = _split(tensors)
    x, test_x = tensors["train_x"], tensors["test_x"]
    if x.shape[1:] != test_x.shape[1:] or x.dtype != test_x.dtype:
        raise ValueError(f"train_x are {_told(x)} and test_x {_told(test_x)}: make them alike")
    classes = _length(tensors["train_y"], tensors["test_y"])
    parts = x, tensors["train_y"], test_x, tensors["test_y"]
    return Source(*parts, classes) if x.dtype == torch.uint8 else ArraySource(*parts, classes)


def _inputs(name: str, x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        images = x.unsqueeze(1) if x.ndim == 3 else x
        if images.ndim != 4 or images.shape[2] != images.shape[3] or not 1 <= images.shape[1] <= MOST_CHANNELS:
            raise ValueError(
                f"{name} are {_told(x)}: uint8 is for images (N, H, H) or (N, C, H, H); other inputs are float32"
            )
        return images
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"{name} are {_told(x)}: inputs are (N, ...), with at least one number each")
    if x.dtype in _INTEGERS:
        return x.long()
    if x.dtype not in _FLOATS:
        raise ValueError(f"{name} are {_told(x)}: make them uint8 (images), integers (indices) or floats")
    return _finite(name, x.float())


def _length(train: Tensor, test: Tensor) -> int:
    """Length of the output that labels belong to."""
    if train.is_floating_point() or test.is_floating_point():
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise ValueError(f"train_y are {_told(train)} and test_y {_told(test)}: make them alike")
        return train.shape[1]
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"train_y are {_told(train)} and test_y {_told(test)}: make them alike")
    classes = 1 + max(int(train.max()), int(test.max()))
    if classes < 2:
        raise ValueError("train_y and test_y have one class only")
    return classes


def _labels(name: str, y: Tensor) -> Tensor:
    if y.dtype in _FLOATS and y.ndim in (1, 2) and 0 not in y.shape[1:]:
        return _finite(name, y.float() if y.ndim == 2 else y.float().unsqueeze(1))
    if y.dtype not in (torch.uint8, *_INTEGERS) or y.ndim < 1 or 0 in y.shape[1:] or y.shape[1:] == (1,):
        raise ValueError(
            f"{name} are {_told(y)}: labels are integers (N,), classes from 0, or (N, ...) of places, or floats (N,) "
            "or (N, k)"
        )
    y = y.long()
    classes = y[y != IGNORED] if y.ndim > 1 else y
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < MOST_CLASSES:
        raise ValueError(
            f"{name} go from {int(classes.min())} to {int(classes.max())}: classes are numbered from 0, at most "
            f"{MOST_CLASSES:,}; {IGNORED} marks a place that has none"
        )
    if y.ndim > 1 and bool((y == IGNORED).flatten(1).all(1).any()):
        raise ValueError(f"{name} have an example without a class: leave it out")
    return y


def _finite(name: str, x: Tensor) -> Tensor:
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name} have numbers that are not finite in float32")
    return x


def _split(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    test = torch.arange(len(tensors["train_y"])) % EVERY == EVERY - 1
    if not test.any():
        raise ValueError(
            f"train_x has {len(test)} examples: {EVERY} are the fewest of which one is split off for testing"
        )
    kept = {name: t[~test] for name, t in tensors.items()}
    return kept | {name.replace("train", "test"): t[test] for name, t in tensors.items()}


def _told(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
