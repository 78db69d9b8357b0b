"""CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32x32 pixels in 10 classes, in its "python version"."""

from __future__ import annotations

from typing import Any

import torch

from sttp_riemann.lab.data.published import corrupted, require_files
from sttp_riemann.lab.data.source import Request, Source
from sttp_riemann.lab.data.vision import require_torchvision


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
    reader = require_torchvision("data set 'cifar10'").datasets.CIFAR10
    folder = request.root / reader.base_folder
    names = [name for name, _ in (*reader.train_list, *reader.test_list)]
    require_files("cifar10", folder, [*names, reader.meta["filename"]], request)
    try:
        train = reader(request.root, train=True, download=request.download)
        test = reader(request.root, train=False)
    except RuntimeError as error:
        raise corrupted("cifar10", folder) from error
    return Source(*_tensors(train), *_tensors(test), num_classes=10)


def _tensors(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(split.data).permute(0, 3, 1, 2), torch.tensor(split.targets)
