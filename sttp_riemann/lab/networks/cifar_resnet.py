"""Residual networks for CIFAR-10 (He et al. 2016, arXiv 1512.03385, Section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from typing_extensions import override


class CifarResNet(nn.Module):
    """Three stages of n residual blocks, with 16, 32 and 64 channels; 6n + 2 layers.

    Shortcuts between stages have no parameters: every second pixel, and zeros for the new channels ("option A").

    Parameters
    ----------
    num_classes : int
        Length of the output.
    in_channels : int
        Channels of the images.
    depth : int
        Layers; 20, 32, 44, 56 and 110 in the paper.
    width : int
        Channels of the first stage.

    Raises
    ------
    ValueError
        If `depth` is not 6n + 2 with n of at least 1.

    Notes
    -----
    He et al. 2016 (arXiv 1512.03385), Section 4.2.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, depth: int = 20, width: int = 16) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, ...), got {depth}")
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks, channels = [], width
        for stage in range(3):
            for index in range(depth // 6):
                out_channels = width << stage
                blocks.append(_Block(channels, out_channels, stride=2 if stage and not index else 1))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, num_classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, num_classes) of images (N, in_channels, H, W)."""
        maps = self.blocks(torch.relu(self.norm(self.conv1(images))))
        return self.linear(maps.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = out_channels - in_channels, stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(maps)))
        shortcut = pad(maps[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return torch.relu(shortcut + self.norm2(self.conv2(inner)))
