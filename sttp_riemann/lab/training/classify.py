"""The classification task: cross entropy, accuracy; optionally a teacher and a spectral penalty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from sttp_riemann.lab.training.distill import Teacher
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.supervised import Supervised


class Classification(Supervised):
    """Train a network to classify images, or other inputs."""

    measured = "accuracy"

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, accelerator)
        self.teacher = None if recipe.distillation.teacher is None else Teacher(recipe, self.data, accelerator)

    @override
    def criterion(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(*by_place(outputs, labels), label_smoothing=self.recipe.data.label_smoothing)

    @override
    def taught(self, inputs: Tensor, outputs: Tensor, loss: Tensor) -> Tensor:
        if self.teacher is None:
            return loss
        return loss.lerp(self.teacher.distance(inputs, outputs), self.recipe.distillation.distill)

    @override
    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of cross entropies, and of hits."""
        loss = cross_entropy(*by_place(outputs, labels), reduction="sum")
        return torch.stack([loss.double(), (outputs.argmax(-1) == labels).sum().double()])

    @override
    def measures(self, sums: Sequence[float], labels: Tensor) -> dict[str, float]:
        (loss, hits), count = sums, int((labels >= 0).sum())
        return {"loss": loss / count, "accuracy": hits / count}


def by_place(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (M, classes) and labels (M,) of all places of a batch; labels that are shares of classes as they are."""
    if labels.is_floating_point() or labels.ndim == 1:
        return outputs, labels
    return outputs.flatten(0, -2), labels.flatten()
