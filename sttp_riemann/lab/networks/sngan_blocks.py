"""Residual blocks of SNGAN (Miyato et al. 2018, arXiv 1802.05957, Appendix B)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate


def glorot(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> None:
    """Set a layer's weight to Glorot-uniform noise and its bias, if any, to zero, in place."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class DownBlock(nn.Module):
    """Two convolutions of the discriminator with a shortcut, then average pooling if `down`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output; the inner maps have as many as the input.
    down : bool
        Halve the size. The shortcut is a 1x1 convolution where this holds or the channels change.
    """

    def __init__(self, in_channels: int, out_channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1, self.conv2 = _residual_pair(in_channels, in_channels, out_channels)
        self.shortcut = _shortcut(in_channels, out_channels) if down or in_channels != out_channels else None

    def forward(self, maps: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W), or to half of H and W."""
        inner = self.conv2(torch.relu(self.conv1(torch.relu(maps))))
        total = inner + (maps if self.shortcut is None else self.shortcut(maps))
        return avg_pool2d(total, 2) if self.down else total


class FirstBlock(nn.Module):
    """The discriminator's first block: it sees the image itself, without a ReLU, and halves the size.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output; the inner maps have as many as the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _residual_pair(in_channels, out_channels, out_channels)
        self.shortcut = _shortcut(in_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H // 2, W // 2)."""
        inner = self.conv2(torch.relu(self.conv1(images)))
        return avg_pool2d(inner, 2) + self.shortcut(avg_pool2d(images, 2))


class UpBlock(nn.Module):
    """Two convolutions of the generator, the first on maps of twice the size, with a shortcut.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    num_classes : int or None
        Classes of the conditional batch normalization; None for the ordinary one.
    """

    def __init__(self, in_channels: int, out_channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm1 = Norm(in_channels, num_classes)
        self.norm2 = Norm(out_channels, num_classes)
        self.conv1, self.conv2 = _residual_pair(in_channels, out_channels, out_channels)
        self.shortcut = _shortcut(in_channels, out_channels)

    def forward(self, maps: Tensor, labels: Tensor | None) -> Tensor:
        """(N, in_channels, H, W) and labels (N,) or None to (N, out_channels, 2 H, 2 W)."""
        inner = self.conv1(_twice(torch.relu(self.norm1(maps, labels))))
        inner = self.conv2(torch.relu(self.norm2(inner, labels)))
        return inner + self.shortcut(_twice(maps))


class Norm(nn.Module):
    """Batch normalization whose gain and shift depend on the class, if there are classes.

    Parameters
    ----------
    channels : int
        Channels of the maps.
    num_classes : int or None
        None: one gain and one shift per channel, as usual.

    Notes
    -----
    Dumoulin et al. 2017 (arXiv 1610.07629), as in Miyato and Koyama 2018 (arXiv 1802.05637).
    """

    def __init__(self, channels: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes is None)
        self.gain = self.shift = None
        if num_classes is not None:
            self.gain, self.shift = nn.Embedding(num_classes, channels), nn.Embedding(num_classes, channels)
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.shift.weight)

    def forward(self, maps: Tensor, labels: Tensor | None) -> Tensor:
        """Normalize maps (N, channels, H, W); only the conditional kind uses `labels` (N,)."""
        maps = self.norm(maps)
        if self.gain is None or self.shift is None:
            return maps
        return self.gain(labels)[..., None, None] * maps + self.shift(labels)[..., None, None]


def _residual_pair(in_channels: int, inner: int, out_channels: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    first, second = nn.Conv2d(in_channels, inner, 3, padding=1), nn.Conv2d(inner, out_channels, 3, padding=1)
    for conv in (first, second):
        glorot(conv, gain=math.sqrt(2))
    return first, second


def _shortcut(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    glorot(conv)
    return conv


def _twice(maps: Tensor) -> Tensor:
    return interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
