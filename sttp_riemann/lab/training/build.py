"""The task that a recipe asks for."""

from __future__ import annotations

from accelerate import Accelerator

from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.task import Task


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task:
    """The task of a recipe, its networks freshly initialized from the recipe's seed.

    Raises
    ------
    RecipeError
        Data, network or representation cannot be built as the recipe asks.
    """
    # A task imports what it alone needs
    if recipe.task == "gan":
        from sttp_riemann.lab.training.gan import Gan

        return Gan(recipe, accelerator)
    from sttp_riemann.lab.training.classify import Classification

    return Classification(recipe, accelerator)
