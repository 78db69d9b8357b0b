"""Images with one of the shipped digits in each of three channels: 1,000 modes, each as frequent as the others."""

from __future__ import annotations

import torch
from torch import Tensor

from sttp_riemann.lab.data.digits import digits
from sttp_riemann.lab.data.source import Request, Source

MODES = 1000
"""Triples of digits."""
_IMAGES, _LARGEST = 20_000, 1_000_000


def stacked_digits(request: Request) -> Source:
    """Stack digits of the shipped data: uint8 (N, 3, 8, 8), as many of every mode, give or take one.

    Parameters
    ----------
    request : Request
        Its `argument` is N, the number of training images, 20,000 by default. There are a fifth as many test images,
        whose digits are the shipped test digits.

    Returns
    -------
    Source
        The same for the same N. The label is 100 a + 10 b + c for the digits a, b and c of the channels.

    Raises
    ------
    ValueError
        N is no whole number from 1,000 to 1,000,000.

    Notes
    -----
    Metz et al. 2017 (arXiv 1611.02163), who stack digits of MNIST.
    """
    given = request.argument or str(_IMAGES)
    count = int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else 0
    if not MODES <= count <= _LARGEST:
        raise ValueError(f"stacked_digits:N needs a number of images from {MODES:,} to {_LARGEST:,}, not {given!r}")
    source, generator = digits(request), torch.Generator().manual_seed(0)
    train = _stack(source.train_images, source.train_labels, count, generator)
    return Source(*train, *_stack(source.test_images, source.test_labels, count // 5, generator), MODES)


def _stack(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    modes = torch.randperm(count, generator=generator) % MODES
    wanted = torch.stack([modes // 100, modes // 10 % 10, modes % 10], 1)
    order, there = labels.argsort(stable=True), labels.bincount(minlength=10)
    # Float64, in which no product with a share below 1 rounds up to the whole
    shares = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    chosen = (there.cumsum(0) - there)[wanted] + (shares * there[wanted]).long()
    return images[order[chosen], 0], modes
