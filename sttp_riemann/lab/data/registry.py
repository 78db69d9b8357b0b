"""Data sets by name: a new one is one file and one row here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sttp_riemann.lab import plugins
from sttp_riemann.lab.data.array_data import ArrayData
from sttp_riemann.lab.data.arrays import arrays
from sttp_riemann.lab.data.cifar10 import cifar10
from sttp_riemann.lab.data.digits import digits
from sttp_riemann.lab.data.errors import unknown_name
from sttp_riemann.lab.data.fake import fake
from sttp_riemann.lab.data.fashion_mnist import fashion_mnist
from sttp_riemann.lab.data.folder import folder
from sttp_riemann.lab.data.images import ImageData
from sttp_riemann.lab.data.own import own_data
from sttp_riemann.lab.data.source import ArraySource, Request, Source
from sttp_riemann.lab.data.stacked_digits import stacked_digits
from sttp_riemann.lab.data.stl10 import stl10, stl10_unlabeled
from sttp_riemann.lab.data.text import text

DATASETS: dict[str, Callable[[Request], Source | ArraySource]] = {
    "digits": digits,
    "stacked_digits": stacked_digits,
    "cifar10": cifar10,
    "stl10": stl10,
    "stl10-unlabeled": stl10_unlabeled,
    "fashion_mnist": fashion_mnist,
    "folder": folder,
    "arrays": arrays,
    "text": text,
    "fake": fake,
}
ARGUMENTS = {"folder": "PATH", "arrays": "FILE", "text": "FILE", "stacked_digits": "N"}
"""What may stand after a colon and the name of a data set."""
DEFAULT_ROOT = Path("data")


def load_dataset(
    name: str,
    root: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    channels: int | None = None,
) -> Any:  # programs that name images need no case for arrays
    """Load a data set into memory.

    Parameters
    ----------
    name : str
        A key of `DATASETS`; ``folder:PATH``, ``arrays:FILE`` and ``text:FILE`` name the place too, ``stacked_digits:N``
        the number of images; or ``module:attribute``, a function of the user's own.
    root : str, Path or None
        Folder of downloaded data; None for ``data`` in the working directory.
    download : bool
        Whether missing data may be downloaded; otherwise nothing is.
    image_size, channels : int or None
        Of the images that the network sees; None for the stored ones, and for arrays.

    Returns
    -------
    ImageData or ArrayData
        On the CPU; the latter where inputs are no images.

    Raises
    ------
    ValueError
        If the data set is unknown, its files are damaged, or its images cannot be converted as requested.
    FileNotFoundError
        If files are missing and must not be downloaded.
    ImportError
        If reading needs torchvision, which is missing.

    Examples
    --------
    >>> from sttp_riemann.lab.data import load_dataset
    >>> data = load_dataset("digits", image_size=16)
    >>> data.train_images.shape, data.num_classes
    (torch.Size([1437, 1, 8, 8]), 10)
    >>> images, labels = data.batch([0, 1, 2], train=False)
    >>> images.shape, labels.shape
    (torch.Size([3, 1, 16, 16]), torch.Size([3]))
    """
    key, _, argument = name.partition(":")
    own = plugins.is_path(name) and key not in DATASETS
    if not own and (key not in DATASETS or (argument and key not in ARGUMENTS)):
        known = [f"{key}:{ARGUMENTS[key]}" if key in ARGUMENTS else key for key in DATASETS]
        raise unknown_name("data set", name, [*known, "module:attribute"])
    for what, number in (("image_size", image_size), ("channels", channels)):
        if number is not None and number < 1:
            raise ValueError(f"{what} must be at least 1, got {number}")
    root = DEFAULT_ROOT if root is None else Path(root).expanduser()
    source = own_data(name) if own else DATASETS[key](Request(argument, root, download, image_size))
    if isinstance(source, ArraySource):
        for what, number in (("image_size", image_size), ("channels", channels)):
            if number is not None:
                raise ValueError(f"{what} is of images, and these inputs are arrays: leave it out")
        return ArrayData(**vars(source))
    stored = source.train_images
    return ImageData(
        **vars(source),
        channels=channels or stored.shape[1],
        image_size=image_size or stored.shape[-1],
    )
