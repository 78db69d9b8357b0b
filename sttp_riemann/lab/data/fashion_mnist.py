"""Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of 28x28 pixels in 10 classes of clothing."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sttp_riemann.lab.data.source import Request, Source
from sttp_riemann.lab.data.vision import require_torchvision

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""Files of images and of labels, each either plain or with the ending ``.gz``."""
DOWNLOADED = Path("FashionMNIST", "raw")
"""Where torchvision puts them, below the folder of downloaded data."""
PACKAGED = Path("datasets", "fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts them, below a folder such as ``/usr/share``."""
SIDE, CLASSES = 28, 10


def fashion_mnist(request: Request) -> Source:
    """Load 60,000 training and 10,000 test images, uint8 (N, 1, 28, 28).

    The files may lie in ``ROOT``, in ``ROOT/FashionMNIST/raw``, where torchvision puts them, or where Debian's package
    ``dataset-fashion-mnist`` does. With ``validation: 0.1`` a recipe trains on 54,000 and chooses by 6,000.

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
        A file cannot be read as what its name says.
    ImportError
        Torchvision, which downloads them, is missing.

    Notes
    -----
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    arXiv 1708.07747 (MIT licence).
    """
    folder = _folder(request)
    if folder is None and request.download:
        _download(request.root)
        folder = _folder(request)
    if folder is None:
        raise FileNotFoundError(
            f"fashion_mnist is not in {request.root.resolve()}: install Debian's package dataset-fashion-mnist, name "
            "the folder of its four files with data_root, or allow the download with --download true"
        )
    return Source(*_split(folder, TRAIN), *_split(folder, TEST), num_classes=CLASSES)


def _folder(request: Request) -> Path | None:
    """First folder with all four files."""
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [request.root, request.root / DOWNLOADED, *(Path(share) / PACKAGED for share in shared.split(":"))]
    return next((folder for folder in folders if all(_file(folder, name) for name in (*TRAIN, *TEST))), None)


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _download(root: Path) -> None:
    try:
        require_torchvision("downloading fashion_mnist").datasets.FashionMNIST(root, download=True)
    except RuntimeError as error:
        raise OSError(f"fashion_mnist cannot be downloaded: {error}") from error


def _split(folder: Path, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    images, labels = _read(_file(folder, names[0]), 3), _read(_file(folder, names[1]), 1)
    if images.shape != (len(labels), SIDE, SIDE) or int(labels.max()) >= CLASSES:
        raise ValueError(f"{names[0]} and {names[1]} in {folder} do not belong together: get the published files")
    return images[:, None], labels.long()


def _read(path: Path | None, dimensions: int) -> Tensor:
    """Read an idx file: a magic number, the big-endian sizes of its dimensions, unsigned bytes."""
    assert path is not None
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header, values = file.read(4 + 4 * dimensions), file.read()
        if header[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError("another magic number")
        return torch.from_numpy(np.frombuffer(values, np.uint8).reshape(np.frombuffer(header[4:], ">i4")).copy())
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is not the published file: get it anew") from error
