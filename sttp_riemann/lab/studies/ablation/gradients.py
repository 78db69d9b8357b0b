"""Gradients of the frames along a run, and the conditioning of a layer at its beginning and its end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

from sttp_riemann.frames import Frames
from sttp_riemann.lab.studies.ablation.conditioning import differential
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.model.measures import spectral_layers

# Singular values below this share of the largest are zeros with the rounding of float32 frames
NOTHING = 1e-6


@dataclass(frozen=True)
class Probe:
    """What was seen along one run.

    Attributes
    ----------
    norms : Tensor
        (steps,), norm of the gradient of all frames' parameters; Riemannian on the Riemannian path.
    start, end : Tensor
        Singular values of the differential of the probed layer's W, before and after training.
    """

    norms: Tensor
    start: Tensor
    end: Tensor

    @property
    def spread(self) -> float:
        """95 % quantile of the norms over their 5 % quantile, the first tenth of the run left out."""
        settled = self.norms[len(self.norms) // 10 :]
        low, high = torch.quantile(settled, torch.tensor([0.05, 0.95]))
        return float(high / low)


def condition(values: Tensor) -> float:
    """Largest over smallest singular value of the `independent` directions."""
    return float(values[0] / values[independent(values) - 1])


def independent(values: Tensor) -> int:
    """Count the directions that move W at all.

    While values of the spectrum are equal, turning U and V together within them leaves W as it is.
    """
    return int((values > NOTHING * values[0]).sum())


def probe(recipe: Recipe) -> Probe:
    """Train as a recipe says, in a folder that is then deleted, and look on.

    Parameters
    ----------
    recipe : Recipe
        Of a low-rank classifier. The layer looked at is the one before the last.

    Returns
    -------
    Probe
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder))
        player = trainer.task.players["classifier"]
        layer = list(spectral_layers(player.model).values())[-2]
        norms: list[float] = []
        start = differential(layer)
        player.optimizer.register_step_pre_hook(_recorder(player.model, norms))
        trainer.run()
        return Probe(torch.tensor(norms), start, differential(layer))


def _recorder(model: nn.Module, norms: list[float]) -> Callable[..., None]:
    frames = [module for module in model.modules() if isinstance(module, Frames)]

    def record(optimizer: Any, args: Any, kwargs: Any) -> None:
        gradients = [_gradient(p) for own in frames for p in own.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt()))

    return record


@torch.no_grad()
def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    if isinstance(parameter, geoopt.ManifoldParameter):
        return parameter.manifold.egrad2rgrad(parameter, parameter.grad)
    return parameter.grad
