"""Input and output of a data set's loader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

IGNORED = -100
"""Label of a place that has no class, as torch's cross entropy has it."""


@dataclass(frozen=True)
class Request:
    """What the user requests of a data set.

    Attributes
    ----------
    argument : str
        The part after the colon in ``folder:PATH`` or ``stacked_digits:N``.
    root : Path
        Folder of downloaded data.
    download : bool
        Whether missing data may be downloaded.
    image_size : int or None
        Side of the images that the network will see; most data sets leave resizing to `ImageData`.
    """

    argument: str
    root: Path
    download: bool
    image_size: int | None


@dataclass
class Source:
    """A data set as stored.

    Attributes
    ----------
    train_images, test_images : Tensor
        uint8 (N, C, H, H).
    train_labels, test_labels : Tensor
        int64 (N,), 0 .. num_classes - 1; all -1 where the data have no labels; int64 (N, ...) of places, each of which
        has a class or `IGNORED`. float32 (N, num_classes) of a regression.
    num_classes : int
        Length of a network's output; 0 where the data have no labels.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int


@dataclass
class ArraySource:
    """A data set whose inputs are no images.

    Attributes
    ----------
    train_inputs, test_inputs : Tensor
        float32, or int64 for indices, (N, ...).
    train_labels, test_labels : Tensor
        As those of a `Source`.
    num_classes : int
        Length of a network's output.
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    num_classes: int
