"""Check before training that a network suits its task."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


def check_scores(
    network: nn.Module, example: Tensor, labels: Tensor | None, wanted: tuple[int, ...], training: bool
) -> None:
    """Pass one example through a network.

    Parameters
    ----------
    network : nn.Module
        Not changed, nor is its mode.
    example : Tensor
        (1, ...), such as an image (1, channels, height, width).
    labels : Tensor, optional
        (1,), for a network that is conditional on them.
    wanted : tuple of int
        Required output shape: (1, classes), (1, ..., classes) where places have labels, (1, k) where labels are k
        numbers, (1,) for a discriminator.
    training : bool
        Whether to check training mode as well, in which batch normalization needs more than one value.

    Raises
    ------
    ValueError
        It does not; the message continues after the network's name.
    """
    mode = network.training
    # Training mode updates buffers
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    inputs = example, *(() if labels is None else (labels,))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            scores = functional_call(network.train(training), buffers, inputs)
    except Exception as error:
        raise ValueError(f"does not work on inputs of {'x'.join(map(str, example.shape[1:]))}: {error}") from error
    finally:
        network.train(mode)
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else ()
    if shape != wanted:
        kind = {1: "one score", 2: "one number for each class or label"}.get(
            len(wanted), "scores of classes at each place"
        )
        raise ValueError(f"gives {shape or type(scores).__name__} for one input, not {kind}, {wanted}")
