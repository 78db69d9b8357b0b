"""What the loop asks of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sttp_riemann.lab.data import ImageData
from sttp_riemann.lab.training.player import Player


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
