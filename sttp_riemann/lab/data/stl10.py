"""STL-10 (Coates et al. 2011): colour images of 96x96 pixels, 13,000 in 10 classes and 100,000 without labels."""

from __future__ import annotations

import numpy as np
import torch

from sttp_riemann.lab.data.published import corrupted, require_files
from sttp_riemann.lab.data.source import Request, Source
from sttp_riemann.lab.data.vision import require_torchvision


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
    return Source(*_split("train", request), *_split("test", request), num_classes=10)


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
    test_images, test_labels = _split("test", request)
    return Source(*_split("unlabeled", request), test_images, torch.full_like(test_labels, -1), num_classes=0)


def _split(split: str, request: Request) -> tuple[torch.Tensor, torch.Tensor]:
    reader = require_torchvision("data set 'stl10'").datasets.STL10
    folder = request.root / reader.base_folder
    require_files("stl10", folder, [name for name, _ in (*reader.train_list, *reader.test_list)], request)
    try:
        data = reader(request.root, split=split, download=request.download)
    except RuntimeError as error:
        raise corrupted("stl10", folder) from error
    return torch.from_numpy(data.data), torch.from_numpy(data.labels.astype(np.int64))
