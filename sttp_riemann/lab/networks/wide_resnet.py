"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.lab.networks.residual import stages
from sttp_riemann.lab.networks.variants import NetworkVariant, is_released


class WideResNet(nn.Module):
    """Pre-activation residual network with three stages of 16k, 32k and 64k channels; WRN-28-10 by default.

    Parameters
    ----------
    num_classes : int
        Length of the output.
    in_channels : int
        Channels of the images.
    depth : int
        Layers, 6n + 4.
    widen_factor : int
        The factor k of the channels.
    variant : {"original", "released"}
        As its authors have it, or as the code released with Obukhov et al. 2021: the second convolution of a block has
        the stride, projections see the raw input, and the last batch normalization has a momentum of 0.9.

    Raises
    ------
    ValueError
        If `depth` is not 6n + 4 with n of at least 1, or there is no such variant.

    Notes
    -----
    Convolutions have biases, as in Obukhov et al. 2021.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 28,
        widen_factor: int = 10,
        variant: NetworkVariant = "original",
    ) -> None:
        super().__init__()
        released = is_released(variant)
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, 40, ...), got {depth}")
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1)
        widths = [widen_factor * width for width in (16, 32, 64)]
        self.blocks = stages(partial(_Block, released=released), 16, widths, depth // 6)
        self.norm = nn.BatchNorm2d(widths[-1], momentum=0.9 if released else 0.1)
        self.linear = nn.Linear(widths[-1], num_classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, num_classes) of images (N, in_channels, H, W)."""
        maps = torch.relu(self.norm(self.blocks(self.conv1(images))))
        return self.linear(maps.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, released: bool) -> None:
        super().__init__()
        self.released = released
        first, second = (1, stride) if released else (stride, 1)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, first, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, second, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride) if in_channels != out_channels else None

    def forward(self, maps: Tensor) -> Tensor:
        active = torch.relu(self.norm1(maps))
        inner = torch.relu(self.norm2(self.conv1(active)))
        # The identity sees the raw input, a projection the activated one, and the released one the raw one as well
        shortcut = maps if self.shortcut is None else self.shortcut(maps if self.released else active)
        return shortcut + self.conv2(inner)
