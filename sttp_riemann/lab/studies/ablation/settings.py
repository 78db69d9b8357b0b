"""What an ablation is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.sections import LOW_RANK

PATHS = ("riemannian", "householder")


@dataclass(frozen=True)
class Settings:
    """How the two paths are compared.

    Attributes
    ----------
    recipe : Recipe
        What is trained; its rank, learning rate, method, frames and seed are varied.
    ranks : sequence of int
        Ranks of all layers.
    rates : sequence of float
        Learning rates.
    target : float
        Test accuracy in percent; how many steps it takes is told.
    probe_options : mapping
        Options of the network in which conditioning and gradients are looked at: a Jacobian of a wide layer does not
        fit into memory.
    drift_steps : int
        Steps of the drift in float32.

    Raises
    ------
    RecipeError
        A list is empty, a value is out of range, or the recipe is no classification.
    """

    recipe: Recipe
    ranks: Sequence[int] = (4, 16, 64)
    rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    target: float = 95.0
    probe_options: dict[str, int] = field(default_factory=lambda: {"width": 16, "depth": 2})
    drift_steps: int = 2000

    def __post_init__(self) -> None:
        if self.recipe.task != "classify":
            raise RecipeError(f"an ablation needs a recipe that classifies, and {self.recipe.name!r} trains a GAN")
        for name in ("ranks", "rates"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise RecipeError(f"{name} must be one or more positive numbers, not {list(getattr(self, name))}")
        if self.drift_steps < 1:
            raise RecipeError(f"drift_steps must be at least 1, not {self.drift_steps}")

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of the recipe that have frames."""
        return tuple(m for m in self.recipe.study.methods if m in LOW_RANK)

    def run(self, method: str, frames: str, rank: int, rate: float, seed: int) -> Recipe:
        """Give the recipe of one run."""
        return self.recipe.changed(method=method, frames=frames, rank=rank, lr=rate, seed=seed, ranks={})
