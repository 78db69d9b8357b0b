"""The learning rate of each step, the best evaluation so far, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sttp_riemann.lab.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a step, the first one being 0.

    Parameters
    ----------
    recipe : Recipe
        Its ``lr``, ``decay`` and ``steps``.
    step : int
        Steps done before.

    Returns
    -------
    float
        Positive for every step of the run.
    """
    schedule, lr = recipe.schedule, recipe.optimizer.lr
    done = step / schedule.steps
    if schedule.decay == "linear":
        return lr * (1 - done)
    if schedule.decay == "cosine":
        return lr * (1 + math.cos(math.pi * done)) / 2
    if schedule.decay == "steps":
        return lr * schedule.decay_factor ** sum(done >= milestone for milestone in schedule.milestones)
    return lr


def is_best(scores: Sequence[float]) -> bool:
    """Whether the last of these scores is better than all before."""
    return all(scores[-1] > score for score in scores[:-1])


def is_stuck(scores: Sequence[float], patience: int) -> bool:
    """Whether none of the last `patience` scores is better than the best before them; never for a patience of 0."""
    if patience == 0 or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
