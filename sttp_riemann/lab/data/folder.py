"""Image files in folders, one folder per class, as ``folder:PATH``."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from sttp_riemann.lab.data.picture import ENDINGS, read_picture
from sttp_riemann.lab.data.source import Request, Source
from sttp_riemann.lab.data.vision import require_torchvision

TRAIN, TESTS = "train", ("test", "val")
"""Folders of the training and test parts; the first test folder that has classes is used."""


def folder(request: Request) -> Source:
    """Load the images under PATH, uint8 (N, 3, H, H), classes in the order of their folders' names.

    If they exist, ``PATH/train`` and ``PATH/test`` or ``PATH/val`` contain the classes of each part, as in ImageNet;
    ``val`` is the test part if ``test`` is missing or has no classes. Otherwise PATH contains the classes, and every
    fifth file, sorted by class and name, is for testing. With an image size, the shorter side of each image is scaled
    to it, and the image is cropped at the centre to a square.

    Parameters
    ----------
    request : Request
        Its `argument` is PATH; its `image_size` is used.

    Returns
    -------
    Source
        One class per folder.

    Raises
    ------
    FileNotFoundError
        PATH is not a folder, or a class has no images.
    ValueError
        A file cannot be read as an image, images differ in size or are not square and no image size is given, or the
        parts have different classes or one of them is empty.
    ImportError
        Torchvision is missing.
    """
    require_torchvision(f"data set 'folder:{request.argument}'")
    path = Path(request.argument).expanduser()
    if not request.argument or not path.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path)!r}: give folder:PATH with one folder per class in PATH")
    parts = {name: _classes(path / name) for name in (TRAIN, *TESTS)}
    # With images of its own it is a class of this name
    parts = {
        name: classes for name, classes in parts.items() if classes and not any(map(_is_image, os.listdir(path / name)))
    }
    if parts:
        return _parts(path, parts, request.image_size)
    images, labels = _read(path, _classes(path), request.image_size)
    test = torch.arange(len(labels)) % 5 == 4
    if not test.any():
        raise ValueError(f"{path} has {len(labels)} images: five are the fewest that can be split")
    return Source(images[~test], labels[~test], images[test], labels[test], len(_classes(path)))


def _parts(path: Path, parts: dict[str, list[str]], size: int | None) -> Source:
    tests = [name for name in TESTS if name in parts]
    if TRAIN not in parts or not tests:
        raise ValueError(
            f"{path} has the classes of {' and '.join(parts)} alone: both train and val (or test) are needed"
        )
    for name in tests:
        odd = sorted({*parts[TRAIN]} ^ {*parts[name]})
        if odd:
            more = f" and {len(odd) - 5} others" if len(odd) > 5 else ""
            raise ValueError(
                f"{path}/{TRAIN} and {path}/{name} must have the same classes, but only one of them has "
                f"{', '.join(odd[:5])}{more}"
            )
    images, labels = _read(path / TRAIN, parts[TRAIN], size)
    test_images, test_labels = _read(path / tests[0], parts[TRAIN], size)
    if images.shape[-1] != test_images.shape[-1]:
        raise ValueError(f"images of {path}/{TRAIN} and {path}/{tests[0]} differ in size: set image_size")
    return Source(images, labels, test_images, test_labels, len(parts[TRAIN]))


def _classes(path: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out."""
    if not path.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _read(path: Path, classes: list[str], size: int | None) -> tuple[Tensor, Tensor]:
    if not classes:
        raise FileNotFoundError(f"{path} has no folders: give folder:PATH with one folder per class in PATH")
    # All listings before any image: a class without images is reported at once
    files = {name: _files(path / name) for name in classes}
    for name, found in files.items():
        if not found:
            raise FileNotFoundError(f"class {name!r} of {path} has no image files ({', '.join(ENDINGS)})")
    images = [read_picture(file, size) for found in files.values() for file in found]
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"images in {path} differ in size: set image_size")
    height, width = sizes.pop()
    if height != width:
        raise ValueError(f"images in {path} are {width}x{height}, not square: set image_size")
    labels = torch.tensor([label for label, found in enumerate(files.values()) for _ in found])
    return torch.stack(images), labels


def _files(path: Path) -> list[Path]:
    """Image files in a folder and its subfolders, in order; links to folders are not followed."""
    walk = os.walk(path, onerror=_raise)
    return sorted(Path(place) / name for place, _, names in walk for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _raise(error: OSError) -> None:
    raise error
