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
    done = step / recipe.steps
    if recipe.decay == "linear":
        return recipe.lr * (1 - done)
    if recipe.decay == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * done)) / 2
    if recipe.decay == "steps":
        return recipe.lr * recipe.decay_factor ** sum(done >= milestone for milestone in recipe.milestones)
    return recipe.lr
