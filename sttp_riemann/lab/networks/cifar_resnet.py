"""Residual networks for CIFAR-10 (He et al. 2016, arXiv 1512.03385, Section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.lab.networks.residual import BasicBlock, stages


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
        self.blocks = stages(BasicBlock, width, (width, 2 * width, 4 * width), depth // 6)
        self.linear = nn.Linear(4 * width, num_classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, num_classes) of images (N, in_channels, H, W)."""
        maps = self.blocks(torch.relu(self.norm(self.conv1(images))))
        return self.linear(maps.mean((2, 3)))
