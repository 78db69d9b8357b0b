"""Images in memory, and their conversion for the network: resized, in [-1, 1], with the channels wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sttp_riemann.lab.data.source import Source

# Splits of up to this many numbers are stored as the network sees them: 64 MiB in float32.
SMALL = 2**24
_CHUNK = 1024


@dataclass
class ImageData(Source):
    """A data set, and its images as the network sees them.

    Attributes
    ----------
    train_images, test_images : Tensor
        uint8 (N, C, H, H): as stored, except that images larger than `image_size` are shrunk to it.
    train_labels, test_labels : Tensor
        int64 (N,), 0 .. num_classes - 1; all -1 where the data have no labels. float32 (N, num_classes) of a
        regression.
    num_classes : int
        Length of a network's output; 0 where the data have no labels.
    channels : int
        Channels of the images that `batch` returns: as stored, 1 repeated to 3, or the luminance of 3.
    image_size : int
        Side of the images that `batch` returns.

    Raises
    ------
    ValueError
        If the stored channels cannot become `channels`, or a size is below 1.
    """

    channels: int
    image_size: int
    _ready: dict[bool, Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        stored = self.train_images.shape[1]
        if self.channels != stored and {self.channels, stored} != {1, 3}:
            raise ValueError(f"images of {stored} channels cannot become {self.channels}: set channels to 1 or 3")
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {self.image_size}")
        self.train_images = _shrink(self.train_images, self.image_size)
        self.test_images = _shrink(self.test_images, self.image_size)
        for train, images in ((True, self.train_images), (False, self.test_images)):
            if len(images) * self.channels * self.image_size**2 <= SMALL:
                self._ready[train] = self._prepare(images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image that `batch` returns."""
        return self.channels, self.image_size, self.image_size

    def batch(self, indices: Tensor | Sequence[int], train: bool = True) -> tuple[Tensor, Tensor]:
        """Images as the network sees them, and their labels.

        Parameters
        ----------
        indices : Tensor or sequence of int
            (B,), which images.
        train : bool
            Of the training images, or of the test images.

        Returns
        -------
        images : Tensor
            Of float32, (B, channels, image_size, image_size) in [-1, 1], on the CPU.
        labels : Tensor
            Of int64, (B,), or of float32, (B, num_classes).
        """
        indices = torch.as_tensor(indices, dtype=torch.int64)
        labels = (self.train_labels if train else self.test_labels)[indices]
        if train in self._ready:
            return self._ready[train][indices], labels
        return self._prepare((self.train_images if train else self.test_images)[indices]), labels

    def _prepare(self, images: Tensor) -> Tensor:
        floats = images.float() / 127.5 - 1
        if self.channels < images.shape[1]:
            # Luminance of ITU-R BT.601, as in image libraries.
            floats = (floats * floats.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        if self.image_size != images.shape[-1]:
            floats = interpolate(floats, size=(self.image_size, self.image_size), mode="bilinear", align_corners=False)
        return floats.repeat(1, self.channels // floats.shape[1], 1, 1)


def _shrink(images: Tensor, size: int) -> Tensor:
    if size >= images.shape[-1]:
        return images.contiguous()  # files may use other orders of rows, columns and channels
    # Done once, in uint8 and in chunks: a large data set never exists as floats, nor twice at its full size.
    small = images.new_empty(*images.shape[:2], size, size)
    for source, target in zip(images.split(_CHUNK), small.split(_CHUNK), strict=True):
        floats = interpolate(source.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        target.copy_(floats.round().clamp(0, 255))
    return small
