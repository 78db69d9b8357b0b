"""CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32x32 pixels in 10 classes, in its "python version"."""

from __future__ import annotations

import torch

from sttp_riemann.lab.data.source import Request, Source
from sttp_riemann.lab.data.vision import read_published


def cifar10(request: Request) -> Source:
    """Load 50,000 training and 10,000 test images, uint8 (N, 3, 32, 32), of ``ROOT/cifar-10-batches-py``.

    Parameters
    ----------
    request : Request
        Where the files are, and whether they may be downloaded.

    Returns
    -------
    Source
        In 10 classes.

    Raises
    ------
    FileNotFoundError
        Files are missing and must not be downloaded.
    ValueError
        A file is not the published one.
    ImportError
        Torchvision is missing.

    Notes
    -----
    The files are Python pickles, which can run code when read. Torchvision reads them only after comparing the
    MD5 checksum of each with the published one.
    """
    parts = read_published("cifar10", "CIFAR10", ({"train": True}, {"train": False}), request)
    pairs = [(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets)) for part in parts]
    return Source(*pairs[0], *pairs[1], num_classes=10)
