"""What the loop asks of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import Tensor

from sttp_riemann.lab.data import ImageData
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe


class Task(Protocol):
    """Networks, data and losses of one kind of training.

    Attributes
    ----------
    players : dict[str, Player]
        The networks that are trained, by name.
    data : ImageData
        What they are trained on.
    size : int
        Number of training examples.
    """

    players: dict[str, Player]
    data: ImageData
    size: int

    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """One step of training, on as many batches of indices as the task draws; its loss.

        Raises
        ------
        BadStepError
            The step is refused; parameters, moments and buffers are as they were before what is refused.
        """
        ...

    def evaluate(self) -> dict[str, float]:
        """Measure what goes into the history."""
        ...

    def final(self) -> dict[str, float]:
        """Measure what is looked at once, after the last step."""
        ...

    def write_records(self, folder: Path, step: int) -> None:
        """Write what the last evaluation found and is too big for the history."""
        ...

    def score(self, figures: Mapping[str, float]) -> float:
        """Tell which evaluation is the best; the higher the better."""
        ...

    def summary(self) -> dict[str, Any]:
        """Tell of the finished networks: sizes, singular values."""
        ...


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task:
    """Task that a recipe asks for, its networks freshly initialized from the recipe's seed.

    Raises
    ------
    RecipeError
        Data, network or representation cannot be had as the recipe wants them.
    """
    # A task imports what only it needs
    if recipe.task == "gan":
        from sttp_riemann.lab.training.gan import Gan

        return Gan(recipe, accelerator)
    from sttp_riemann.lab.training.classify import Classification

    return Classification(recipe, accelerator)
