"""What the loop requires of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import load_data


class Task(ABC):
    """Networks, data and losses of one kind of training.

    Parameters
    ----------
    recipe : Recipe
        Data, networks, representations.
    accelerator : Accelerator
        Device, precision, processes.

    Attributes
    ----------
    players : dict[str, Player]
        The networks that are trained, by name.
    data : ImageData or ArrayData
        Their data; images for a GAN.
    size : int
        Number of training examples.

    Raises
    ------
    RecipeError
        Data, a network or its representation cannot be built as the recipe asks.
    """

    players: dict[str, Player]
    size: int
    data: Any

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.data = load_data(recipe)

    @abstractmethod
    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """One step of training, on as many batches of indices as the task draws; its loss.

        Raises
        ------
        BadStepError
            The step is refused; parameters, moments and buffers are as before the refused update.
        """

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Measure what goes into the history."""

    @abstractmethod
    def score(self, figures: Mapping[str, float]) -> float:
        """Score of an evaluation; the higher the better."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Report on the finished networks: sizes, singular values."""

    def final(self) -> dict[str, float]:
        """Measure what is evaluated only once, after the last step."""
        return {}

    def records(self, step: int) -> dict[str, bytes]:
        """Files of the last evaluation that do not fit into the history, by path in the run's folder."""
        return {}
