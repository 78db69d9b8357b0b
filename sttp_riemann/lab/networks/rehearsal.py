"""Whether a network does what it is chosen for, seen before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def check_scores(
    network: nn.Module, image: tuple[int, int, int], labels: Tensor | None, wanted: tuple[int, ...], training: bool
) -> None:
    """Pass one image through a network.

    Parameters
    ----------
    network : nn.Module
        Left as it is, its mode included.
    image : tuple of int
        Channels, height and width.
    labels : Tensor, optional
        (1,), for a network that is conditional on them.
    wanted : tuple of int
        Shape of what it is to give: (1, classes) of a classifier, (1,) of a discriminator.
    training : bool
        Whether it has to do so in training mode as well, where batch normalization wants more than one value.

    Raises
    ------
    ValueError
        It does not; the message goes on behind the network's name.
    """
    mode = network.training
    state = {name: buffer.clone() for name, buffer in network.named_buffers()} if training else {}
    inputs = torch.zeros(1, *image), *(() if labels is None else (labels,))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            scores = network.train(training)(*inputs)
    except Exception as error:
        raise ValueError(f"does not work on images of {'x'.join(map(str, image))}: {error}") from error
    finally:
        network.train(mode)
        for name, buffer in network.named_buffers():
            if name in state:
                buffer.copy_(state[name])
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else ()
    if shape != wanted:
        kind = "a score for each class" if len(wanted) == 2 else "one score"
        raise ValueError(f"gives {shape or type(scores).__name__} for an image, not {kind}, {wanted}")
