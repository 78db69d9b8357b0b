"""The regression task: mean squared error, R^2; optionally a spectral penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import mse_loss
from typing_extensions import override

from sttp_riemann.errors import DivergedError, RecipeError
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.supervised import Supervised


class Regression(Supervised):
    """Train a network to tell numbers."""

    measured = "r2"

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, accelerator)
        held_out = self.data.train_labels[self._held]
        for name, labels in {"held-out": held_out, "test": self.data.test_labels}.items():
            if len(labels) and bool((labels == labels[0]).all()):
                what = f"the {name} labels of the data {shown(recipe.data.name)}"
                raise RecipeError(f"{what} are all equal, so that there is no R^2: give data in which they differ")

    @override
    def criterion(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return mse_loss(outputs, labels)

    @override
    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of squared errors."""
        return (outputs.double() - labels).square().sum().view(1)

    @override
    def measures(self, sums: Sequence[float], labels: Tensor) -> dict[str, float]:
        """Mean squared error, its root, and R^2, each of all outputs together."""
        (errors,) = sums
        if not math.isfinite(errors):
            raise DivergedError(
                f"{self.recipe.label}, seed {self.recipe.seed}: the network's outputs are not finite: "
                "set lr lower, or precision to 'float32'"
            )
        mean = errors / labels.numel()
        return {"loss": mean, "rmse": math.sqrt(mean), "r2": explained(errors, labels)}


def explained(errors: float, labels: Tensor) -> float:
    """R^2 of a sum of squared errors, all outputs of the labels (N, k) together."""
    labels = labels.double()
    return 1 - errors / float((labels - labels.mean(0)).square().sum())
