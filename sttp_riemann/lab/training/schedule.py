"""The learning rate over a run."""

from __future__ import annotations

import math

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
