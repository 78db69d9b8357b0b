"""Image files in folders, one folder a class, as ``folder:PATH``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.data.source import Request, Source
from sttp_riemann.data.vision import require_torchvision


def folder(request: Request) -> Source:
    """Give the images under PATH, uint8 (N, 3, H, H), classes in the order of their folders' names.

    ``PATH/train`` and ``PATH/test``, where both are there, hold the classes of either part. Otherwise PATH does, and of
    the files, sorted by class and name, every fifth is for testing. With an image size, images are scaled until their
    shorter side has it and cut at the centre to a square.

    Parameters
    ----------
    request : Request
        Its `argument` is PATH; its `image_size` matters.

    Returns
    -------
    Source
        A class a folder.

    Raises
    ------
    FileNotFoundError
        PATH is no folder, or a class has no images.
    ValueError
        A file cannot be read as an image, images differ in size or are not square and no image size is given, or the
        two parts have different classes or one of them nothing.
    ImportError
        Torchvision is missing.
    """
    path = Path(request.argument).expanduser()
    if not request.argument or not path.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path)!r}: give folder:PATH with one folder a class in PATH")
    if (path / "train").is_dir() and (path / "test").is_dir():
        return _two_parts(path, request.image_size)
    classes, images, labels = _read(path, request.image_size)
    test = torch.arange(len(labels)) % 5 == 4
    if not test.any():
        raise ValueError(f"{path} has {len(labels)} images: five are the fewest that can be split")
    return Source(images[~test], labels[~test], images[test], labels[test], len(classes))


def _two_parts(path: Path, size: int | None) -> Source:
    classes, images, labels = _read(path / "train", size)
    test_classes, test_images, test_labels = _read(path / "test", size)
    if classes != test_classes:
        odd = ", ".join(sorted({*classes} ^ {*test_classes}))
        raise ValueError(f"{path}/train and {path}/test must have the same classes, but only one of them has {odd}")
    if images.shape[-1] != test_images.shape[-1]:
        raise ValueError(f"images of {path}/train and {path}/test differ in size: set image_size")
    return Source(images, labels, test_images, test_labels, len(classes))


def _read(path: Path, size: int | None) -> tuple[list[str], Tensor, Tensor]:
    torchvision = require_torchvision(f"data set 'folder:{path}'")
    found = torchvision.datasets.ImageFolder(path)
    images = [_decode(torchvision, found.loader, file, size) for file, _ in found.samples]
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"images in {path} differ in size: set image_size")
    height, width = sizes.pop()
    if height != width:
        raise ValueError(f"images in {path} are {width}x{height}, not square: set image_size")
    return found.classes, torch.stack(images), torch.tensor(found.targets)


def _decode(torchvision: Any, loader: Any, file: str, size: int | None) -> Tensor:
    try:
        image = loader(file)
    except OSError as error:
        raise ValueError(f"cannot read {file} as an image: {error}") from error
    functional = torchvision.transforms.functional
    if size is not None:
        image = functional.center_crop(functional.resize(image, size), [size, size])
    return functional.pil_to_tensor(image)
