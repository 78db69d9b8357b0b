"""Residual blocks of SNGAN (Miyato et al. 2018, arXiv 1802.05957, Appendix B)."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from typing_extensions import override

RESIDUAL_GAIN = math.sqrt(2)
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def linear(in_features: int, out_features: int, bias: bool = True, zero_bias: bool = True) -> nn.Linear:
    """Linear layer with Glorot-uniform weights; biases of zero, or torch's own."""
    return _glorot(nn.Linear(in_features, out_features, bias), 1.0, zero_bias)


def conv(in_channels: int, out_channels: int, size: int, gain: float = 1.0, zero_bias: bool = True) -> nn.Conv2d:
    """Convolution that keeps the size of the maps, with Glorot-uniform weights.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the maps.
    size : int
        Side of the kernel, odd.
    gain : float
        Of the initialization.
    zero_bias : bool
        Whether biases start at zero, or as torch draws them.
    """
    return _glorot(nn.Conv2d(in_channels, out_channels, size, padding=size // 2), gain, zero_bias)


class DownBlock(nn.Module):
    """Two convolutions of the discriminator with a shortcut, then average pooling if `down`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output; the inner maps have as many as the input.
    down : bool
        Halve the size. The shortcut is a 1x1 convolution where this holds or the channels change.
    first : bool
        The block sees the image itself: without a ReLU, and with inner maps of `out_channels`.
    released : bool
        As in the code released with Obukhov et al. 2021: its ReLU works in place, so the shortcut has its output; and
        biases start as torch draws them.
    """

    def __init__(
        self, in_channels: int, out_channels: int, down: bool, first: bool = False, released: bool = False
    ) -> None:
        super().__init__()
        self.down, self.first, self.released = down, first, released
        zero_bias = not released
        inner = out_channels if first else in_channels
        self.conv1 = conv(in_channels, inner, 3, RESIDUAL_GAIN, zero_bias)
        self.conv2 = conv(inner, out_channels, 3, RESIDUAL_GAIN, zero_bias)
        has_own = down or in_channels != out_channels
        self.shortcut = conv(in_channels, out_channels, 1, 1.0, zero_bias) if has_own else None

    @override
    def forward(self, maps: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W), or to half of H and W."""
        active = maps if self.first else torch.relu(maps)
        inner = self.conv2(torch.relu(self.conv1(active)))
        maps = active if self.released else maps
        if self.first and self.down and self.shortcut is not None:
            # A 1x1 convolution commutes with averaging, and costs a quarter after it
            return avg_pool2d(inner, 2) + self.shortcut(avg_pool2d(maps, 2))
        total = inner + (maps if self.shortcut is None else self.shortcut(maps))
        return avg_pool2d(total, 2) if self.down else total


class UpBlock(nn.Module):
    """Two convolutions of the generator, the first on maps of twice the size, with a shortcut.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    num_classes : int or None
        Classes of the conditional batch normalization; None for the ordinary one.
    released : bool
        Biases start as torch draws them, not at zero.
    """

    def __init__(self, in_channels: int, out_channels: int, num_classes: int | None, released: bool = False) -> None:
        super().__init__()
        self.norm1 = Norm(in_channels, num_classes)
        self.norm2 = Norm(out_channels, num_classes)
        self.conv1 = conv(in_channels, out_channels, 3, RESIDUAL_GAIN, not released)
        self.conv2 = conv(out_channels, out_channels, 3, RESIDUAL_GAIN, not released)
        self.shortcut = conv(in_channels, out_channels, 1, 1.0, not released)

    @override
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

    @override
    def forward(self, maps: Tensor, labels: Tensor | None) -> Tensor:
        """Normalize maps (N, channels, H, W); only the conditional kind uses `labels` (N,)."""
        maps = self.norm(maps)
        if self.gain is None or self.shift is None:
            return maps
        return self.gain(labels)[..., None, None] * maps + self.shift(labels)[..., None, None]


def _twice(maps: Tensor) -> Tensor:
    return interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


def _glorot(layer: Layer, gain: float, zero_bias: bool) -> Layer:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None and zero_bias:
        nn.init.zeros_(layer.bias)
    return layer
