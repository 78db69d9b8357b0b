"""Random images, the same every time: for tests and for measuring speed."""

from __future__ import annotations

import torch

from sttp_riemann.data.source import Request, Source

_TRAIN, _TEST, _CLASSES = 512, 128, 10


def fake(request: Request) -> Source:
    """Give 512 training and 128 test images of noise, 3 channels, `request.image_size` (32 by default) pixels a side.

    Labels run through the 10 classes in turn.

    Parameters
    ----------
    request : Request
        Its `image_size` matters.

    Returns
    -------
    Source
        The same every time.
    """
    size = request.image_size or 32
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (_TRAIN + _TEST, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(_TRAIN + _TEST) % _CLASSES
    return Source(images[:_TRAIN], labels[:_TRAIN], images[_TRAIN:], labels[_TRAIN:], _CLASSES)
