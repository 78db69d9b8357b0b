"""Penalties on the gradients of a discriminator's outputs by its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Place = Literal["real", "fake", "between"]


@dataclass(frozen=True)
class GradientPenalty:
    """A penalty on the gradient of each output by its own image.

    Attributes
    ----------
    place : {"real", "fake", "between"}
        Which images: real ones, generated ones, or a random point between the i-th real and the i-th generated one.
    value : callable
        From gradients (N, C * H * W) to a scalar.
    """

    place: Place
    value: Callable[[Tensor], Tensor]


def _zero_centred(gradients: Tensor) -> Tensor:
    return gradients.square().sum(1).mean() / 2


def _one_centred(gradients: Tensor) -> Tensor:
    # Where a gradient is zero, autograd takes zero for that of its norm
    return (torch.linalg.vector_norm(gradients, dim=1) - 1).square().mean()


GRADIENT_PENALTIES = {
    # Mescheder et al. 2018 (arXiv 1801.04406), Equations 9 and 10
    "r1": GradientPenalty("real", _zero_centred),
    "r2": GradientPenalty("fake", _zero_centred),
    # Gulrajani et al. 2017 (arXiv 1704.00028), Equation 3
    "wgan_gp": GradientPenalty("between", _one_centred),
}
"""Penalties by their names in recipes; weights are gamma of the first two and lambda of the last."""


def between(real: Tensor, fake: Tensor) -> Tensor:
    """Draw a point between each pair of images (N, C, H, W), uniformly."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    return torch.lerp(fake, real, share)


def gradient_penalty(scores: Tensor, places: Mapping[Place, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of penalties with their weights, differentiable by the discriminator's parameters.

    Parameters
    ----------
    scores : Tensor
        All outputs of one forward, each of which depends on its own image alone.
    places : mapping
        The images of that forward by place, as leaves that require gradients.
    weights : mapping
        By names of `GRADIENT_PENALTIES`.

    Returns
    -------
    Tensor
        A scalar.
    """
    wanted = {GRADIENT_PENALTIES[name].place for name in weights}
    images = {place: images for place, images in places.items() if place in wanted}
    # An output depends on its own image alone, so the gradient of their sum has each one's gradient
    found = torch.autograd.grad(scores.sum(), [*images.values()], create_graph=True)
    gradients = {place: gradient.flatten(1) for place, gradient in zip(images, found, strict=True)}
    penalties = ((weight, GRADIENT_PENALTIES[name]) for name, weight in weights.items())
    return torch.stack([weight * penalty.value(gradients[penalty.place]) for weight, penalty in penalties]).sum()
