"""A residual network for 8x8 digits that trains in seconds on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.lab.networks.residual import BasicBlock, stages


class DigitsResNet(nn.Module):
    """Stem, 2x2 average pooling, equal residual blocks, global average pooling, linear layer.

    All convolutions but the stem have one shape, so that their frames share banks.

    Parameters
    ----------
    num_classes : int
        Length of the output.
    in_channels : int
        Channels of the images.
    width : int
        Channels of every convolution.
    depth : int
        Residual blocks, of two convolutions each.

    Notes
    -----
    Blocks as in He et al. 2016 (arXiv 1512.03385). Pooling comes first because a step on 4x4 maps costs a quarter of
    one on 8x8 maps.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.blocks = stages(BasicBlock, width, (width,), depth)
        self.linear = nn.Linear(width, num_classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, num_classes) of images (N, in_channels, H, W)."""
        maps = self.blocks(self.pool(torch.relu(self.norm(self.conv1(images)))))
        return self.linear(maps.mean((2, 3)))
