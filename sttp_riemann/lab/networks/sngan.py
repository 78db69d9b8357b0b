"""SNGAN: generator and discriminator for images of 8, 32, 48, 64 and 128 pixels (Miyato et al. 2018, Appendix B).

The appendix has no networks for 8 and 64 pixels. Ours for 64 are those for 128 without the
extra stage, and ours for 8 are those for 32 with one block fewer and maps of 2x2 at the narrow end.

The variant "released" is that of the code released with Obukhov et al. 2021 (commit 44e13f5), which has none for 8
pixels: the shortcuts of all blocks of its discriminator but the first have the output of the ReLU, its discriminator
for 64 pixels halves the maps in the last block too, and biases start as torch draws them.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.lab.networks.sngan_blocks import DownBlock, Norm, UpBlock, conv, linear
from sttp_riemann.lab.networks.variants import NetworkVariant, is_released

# By image size: the paper's width, and the divisor of the width that gives each stage's channels.
_GENERATORS = {
    8: (64, (1, 1, 1)),
    32: (256, (1, 1, 1, 1)),
    48: (512, (1, 2, 4, 8)),
    64: (1024, (1, 2, 4, 8, 16)),
    128: (1024, (1, 1, 2, 4, 8, 16)),
}
_DISCRIMINATORS = {
    8: (64, (1, 1, 1)),
    32: (128, (1, 1, 1, 1)),
    48: (1024, (16, 8, 4, 2, 1)),
    64: (1024, (16, 8, 4, 2, 1)),
    128: (1024, (16, 8, 4, 2, 1, 1)),
}
_HALVING_BLOCKS = {8: 2, 32: 2, 48: 4, 64: 4, 128: 5}
_HALVING_BLOCKS_RELEASED = {32: 2, 48: 4, 64: 5, 128: 5}
SIZES = (*_GENERATORS,)
"""Sides of the images that there are networks for."""


class SNGANGenerator(nn.Module):
    """Linear layer, residual blocks that each double the size, batch normalization, ReLU, convolution, tanh.

    Parameters
    ----------
    image_size : {8, 32, 48, 64, 128}
        Side of the images.
    num_classes : int or None
        Classes of the conditional batch normalization; None for an unconditional network.
    in_channels : int
        Channels of the images.
    width : int or None
        Channels of the widest stage, the others in proportion; None for 64 at 8 pixels and the paper's 256, 512,
        1024, 1024.
    latent_dim : int
        Length of the noise.
    variant : {"original", "released"}
        As its authors have it, or as the code released with Obukhov et al. 2021.

    Attributes
    ----------
    num_classes : int or None
        As given: whether `forward` needs labels.
    latent_dim : int
        As given.

    Raises
    ------
    ValueError
        If a stage would not have a whole number of channels, or there is no such variant of the size.

    Notes
    -----
    Miyato et al. 2018 (arXiv 1802.05957), Appendix B; the network for 8 pixels is ours.
    """

    def __init__(
        self,
        image_size: int,
        num_classes: int | None = None,
        in_channels: int = 3,
        width: int | None = None,
        latent_dim: int = 128,
        variant: NetworkVariant = "original",
    ) -> None:
        super().__init__()
        released = _has_released(image_size, variant)
        channels = _channels(*_GENERATORS[image_size], width)
        self.num_classes, self.latent_dim = num_classes, latent_dim
        self.bottom = image_size >> (len(channels) - 1)
        self.linear = linear(latent_dim, channels[0] * self.bottom**2, zero_bias=not released)
        self.blocks = nn.ModuleList(
            UpBlock(before, after, num_classes, released) for before, after in itertools.pairwise(channels)
        )
        self.norm = Norm(channels[-1])
        self.to_image = conv(channels[-1], in_channels, 3, zero_bias=not released)

    @override
    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate images (N, in_channels, image_size, image_size) in [-1, 1] from noise (N, latent_dim).

        Labels (N,) are required by a conditional network and refused by any other.
        """
        _check_labels(self.num_classes, labels)
        maps = self.linear(noise).unflatten(1, (-1, self.bottom, self.bottom))
        for block in self.blocks:
            maps = block(maps, labels)
        return torch.tanh(self.to_image(torch.relu(self.norm(maps, None))))


class SNGANDiscriminator(nn.Module):
    """Residual blocks, ReLU, global sum pooling, linear layer without bias; class projection if conditional.

    No spectral normalization is built in: wrap the layers, or parameterize them.

    Parameters
    ----------
    image_size : {8, 32, 48, 64, 128}
        Side of the images.
    num_classes : int or None
        Classes of the projection; None for an unconditional network.
    in_channels : int
        Channels of the images.
    width : int or None
        Channels of the widest stage, the others in proportion; None for 64 at 8 pixels and the paper's 128,
        1024, 1024, 1024.
    variant : {"original", "released"}
        As its authors have it, or as the code released with Obukhov et al. 2021.

    Attributes
    ----------
    num_classes : int or None
        As given: whether `forward` needs labels.

    Raises
    ------
    ValueError
        If a stage would not have a whole number of channels, or there is no such variant of the size.

    Notes
    -----
    Projection: Miyato and Koyama 2018 (arXiv 1802.05637).
    """

    def __init__(
        self,
        image_size: int,
        num_classes: int | None = None,
        in_channels: int = 3,
        width: int | None = None,
        variant: NetworkVariant = "original",
    ) -> None:
        super().__init__()
        released = _has_released(image_size, variant)
        halving = (_HALVING_BLOCKS_RELEASED if released else _HALVING_BLOCKS)[image_size]
        channels = _channels(*_DISCRIMINATORS[image_size], width)
        self.num_classes = num_classes
        pairs = enumerate(itertools.pairwise(channels), start=1)
        self.blocks = nn.Sequential(
            DownBlock(in_channels, channels[0], down=True, first=True, released=released),
            *(DownBlock(*pair, down=index < halving, released=released) for index, pair in pairs),
        )
        self.linear = linear(channels[-1], 1, bias=False)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, channels[-1])
        if self.embedding is not None:
            nn.init.xavier_uniform_(self.embedding.weight)

    @override
    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) of images (N, in_channels, H, W) in [-1, 1], higher for what looks real.

        Labels (N,) are required by a conditional network and refused by any other.
        """
        _check_labels(self.num_classes, labels)
        features = torch.relu(self.blocks(images)).sum((2, 3))
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(labels) * features).sum(1)


def _has_released(image_size: int, variant: NetworkVariant) -> bool:
    released = is_released(variant)
    if released and image_size not in _HALVING_BLOCKS_RELEASED:
        raise ValueError(f"there is no released network for {image_size} pixels: leave variant at 'original'")
    return released


def _channels(paper_width: int, divisors: tuple[int, ...], width: int | None) -> list[int]:
    width = paper_width if width is None else width
    if width < 1 or width % max(divisors):
        raise ValueError(f"width must be a positive multiple of {max(divisors)} for this network, got {width}")
    return [width // divisor for divisor in divisors]


def _check_labels(num_classes: int | None, labels: Tensor | None) -> None:
    if num_classes is not None and labels is None:
        raise ValueError(f"this network is conditional on {num_classes} classes: call it with labels too")
    if num_classes is None and labels is not None:
        raise ValueError("this network is unconditional: build it with num_classes, or call it without labels")
