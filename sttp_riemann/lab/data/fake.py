"""Reproducible random images, for tests and speed measurements."""

from __future__ import annotations

import torch

from sttp_riemann.lab.data.source import Request, Source

_TRAIN, _TEST, _CLASSES = 512, 128, 10
# At this size they take 2 GiB
_LARGEST = 1024


def fake(request: Request) -> Source:
    """Make 512 training and 128 test images of noise, 3 channels, `request.image_size` (default 32) pixels a side.

    Labels run through the 10 classes in turn.

    Parameters
    ----------
    request : Request
        Only its `image_size` is used.

    Returns
    -------
    Source
        The same at every call.

    Raises
    ------
    ValueError
        They would not fit into memory.
    """
    size = request.image_size or 32
    if size > _LARGEST:
        raise ValueError(f"image_size must be at most {_LARGEST} for images of noise, got {size}")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (_TRAIN + _TEST, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(_TRAIN + _TEST) % _CLASSES
    return Source(images[:_TRAIN], labels[:_TRAIN], images[_TRAIN:], labels[_TRAIN:], _CLASSES)
