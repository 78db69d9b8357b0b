"""STL-10 (Coates et al. 2011): colour images of 96x96 pixels, 13,000 in 10 classes and 100,000 without labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sttp_riemann.lab.data.source import Request, Source
from sttp_riemann.lab.data.vision import read_published


def stl10(request: Request) -> Source:
    """Load 5,000 training and 8,000 test images, uint8 (N, 3, 96, 96), of ``ROOT/stl10_binary``.

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
    """
    train, test = _read(("train", "test"), request)
    return Source(*train, *test, num_classes=10)


def stl10_unlabeled(request: Request) -> Source:
    """Load the 100,000 unlabeled images for training and the 8,000 test images, all with the label -1.

    Parameters
    ----------
    request : Request
        Where the files are, and whether they may be downloaded.

    Returns
    -------
    Source
        Without classes.

    Raises
    ------
    FileNotFoundError
        Files are missing and must not be downloaded.
    ValueError
        A file is not the published one.
    ImportError
        Torchvision is missing.
    """
    unlabeled, (images, labels) = _read(("unlabeled", "test"), request)
    return Source(*unlabeled, images, torch.full_like(labels, -1), num_classes=0)


def _read(splits: tuple[str, str], request: Request) -> list[tuple[Tensor, Tensor]]:
    parts = read_published("stl10", "STL10", ({"split": split} for split in splits), request)
    return [(torch.from_numpy(part.data), torch.from_numpy(part.labels.astype(np.int64))) for part in parts]
