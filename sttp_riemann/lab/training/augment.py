"""Augmentation of a batch of training images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.lab.training.recipe import Recipe


class Augmentation:
    """Transforms of single images, then mixing of pairs, as far as the recipe asks for them.

    Parameters
    ----------
    recipe : Recipe
        Its ``augment`` and ``mixup``.
    classes : int
        Number of classes of the labels.
    example : Tensor
        One image (C, H, W), to try the transforms on.

    Raises
    ------
    RecipeError
        torchvision is missing, or a transform is unknown, refuses its options, or changes an image's shape.
    """

    def __init__(self, recipe: Recipe, classes: int, example: Tensor) -> None:
        self._transform = self._mix = None
        if recipe.data.augment or recipe.data.mixup:
            v2 = _torchvision()
            if recipe.data.augment:
                self._transform = v2.Compose([_transform(v2, *item) for item in recipe.data.augment.items()])
                self._try(example)
            if recipe.data.mixup:
                self._mix = v2.MixUp(alpha=recipe.data.mixup, num_classes=classes)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented images, and labels: class numbers, or shares (N, classes) of mixed ones."""
        if self._transform is not None:
            # On a batch, a transform would draw one random number for all images
            images = torch.stack([self._transform(image) for image in images])
        if self._mix is not None:
            images, labels = self._mix(images, labels)
        return images, labels

    def _try(self, example: Tensor) -> None:
        try:
            shape = self._transform(example).shape  # type: ignore[misc]
        except Exception as error:
            raise RecipeError(f"augment does not work on images of {_size(example.shape)}: {error}") from error
        if shape != example.shape:
            raise RecipeError(f"augment makes images of {_size(shape)} from {_size(example.shape)}: keep their shape")


def _transform(v2: Any, name: str, options: dict[str, Any]) -> Any:
    kind = getattr(v2, name, None)
    if not (isinstance(kind, type) and issubclass(kind, v2.Transform)):
        raise RecipeError(f"augment: torchvision.transforms.v2 has no transform {shown(name)}")
    try:
        return kind(**options)
    except Exception as error:
        # Each transform checks its options in its own way, or not at all
        raise RecipeError(f"augment: {name} does not take {shown(options)}: {error}") from error


def _torchvision() -> Any:
    try:
        from torchvision.transforms import v2
    except ImportError as error:
        raise RecipeError("augment and mixup need torchvision: pip install 'sttp-riemann[vision]'") from error
    return v2


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape))
