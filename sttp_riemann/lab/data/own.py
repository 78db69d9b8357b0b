"""Data sets of torch of the user's own: ``module:attribute``, a function without arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from sttp_riemann.errors import reason
from sttp_riemann.lab import plugins
from sttp_riemann.lab.data.source import ArraySource, Source
from sttp_riemann.lab.data.tensors import source_of

CHUNK = 1024
"""Examples that are stacked at a time."""


def own_data(path: str) -> Source | ArraySource:
    """Call a function of the user's own and read all its examples into memory.

    Parameters
    ----------
    path : str
        ``module:attribute``: a function that gives a training and a test data set of torch, or one, of which every
        fifth example is for testing. Examples are pairs of input and label.

    Returns
    -------
    Source or ArraySource
        The former for images, of uint8.

    Raises
    ------
    ValueError
        The module was not imported, the function raises, or what it gives cannot be stacked.
    """
    make = plugins.load(path)
    try:
        given = make()
    except Exception as error:
        # Of whatever kind: the code is the user's
        raise ValueError(f"it raises {type(error).__name__}: {reason(error)}") from error
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 2:
        raise ValueError(f"it gives {len(parts)} things: a training and a test data set are wanted, or one data set")
    tensors: dict[str, Tensor] = {}
    for name, part in zip(("train", "test"), parts, strict=False):
        tensors[f"{name}_x"], tensors[f"{name}_y"] = _stacked(name, part)
    return source_of(tensors)


def _stacked(name: str, data: Any) -> tuple[Tensor, Tensor]:
    sized = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if not isinstance(data, Dataset) or isinstance(data, IterableDataset) or not sized:
        raise ValueError(f"its {name} part is a {type(data).__name__}: a torch Dataset with a length is wanted")
    chunks = []
    try:
        for start in range(0, len(data), CHUNK):  # type: ignore[arg-type]
            places = range(start, min(start + CHUNK, len(data)))  # type: ignore[arg-type]
            chunks.append(_pair(default_collate([_example(data[place]) for place in places])))
    except Exception as error:
        raise ValueError(f"its {name} examples cannot be stacked: {reason(error)}") from error
    if not chunks:
        raise ValueError(f"its {name} part has no examples")
    inputs, labels = zip(*chunks, strict=True)
    return torch.cat(inputs), torch.cat(labels)


def _example(example: Any) -> tuple[Any, Any]:
    if not isinstance(example, tuple | list) or len(example) != 2:
        raise ValueError(f"an example is a {type(example).__name__}, not a pair of input and label")
    return example[0], example[1]


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    for what, value in zip(("inputs", "labels"), batch, strict=True):
        if not isinstance(value, Tensor):
            raise ValueError(f"{what} are a {type(value).__name__}, not tensors, arrays or numbers")
    return batch[0], batch[1]
