"""What the residual classifiers share: a block and the stages that blocks form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from typing_extensions import override


class BasicBlock(nn.Module):
    """Two normalized convolutions and a shortcut without parameters.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output; the shortcut has zeros for new ones.
    stride : int
        Of the first convolution; the shortcut takes every stride-th pixel.

    Notes
    -----
    He et al. 2016 (arXiv 1512.03385), with "option A" for the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.new_channels, self.stride = out_channels - in_channels, stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    @override
    def forward(self, maps: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        inner = torch.relu(self.norm1(self.conv1(maps)))
        if self.stride > 1 or self.new_channels:
            maps = pad(maps[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return torch.relu(maps + self.norm2(self.conv2(inner)))


def stages(
    block: Callable[[int, int, int], nn.Module], in_channels: int, widths: Sequence[int], count: int
) -> nn.Sequential:
    """Stages of equally many blocks; each stage but the first halves the maps.

    Parameters
    ----------
    block : callable
        Makes one from the channels of its input and output and its stride.
    in_channels : int
        Channels of the first input.
    widths : sequence of int
        Channels of each stage.
    count : int
        Blocks of a stage.
    """
    blocks, channels = [], in_channels
    for stage, width in enumerate(widths):
        for index in range(count):
            blocks.append(block(channels, width, 2 if stage and not index else 1))
            channels = width
    return nn.Sequential(*blocks)
