"""A network with its optimizer: a classifier is one, a GAN has two."""

from __future__ import annotations

import geoopt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.training.optimizers import build_optimizer, set_lr
from sttp_riemann.training.recipe import Recipe


class Player:
    """A network that is trained, on the device and in the precision of the recipe.

    Parameters
    ----------
    model : nn.Module
        The network; moved to the device in place.
    recipe : Recipe
        Optimizer, learning rate, clipping.
    accelerator : Accelerator
        Device, precision, processes.

    Attributes
    ----------
    model : nn.Module
        The network itself, whatever wraps it.
    network : nn.Module
        What to call: the network in the recipe's precision, its gradients shared between processes.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.model = model.to(accelerator.device)
        self.optimizer = build_optimizer(self.model, recipe)
        self.network, self._stepper = accelerator.prepare(self.model, self.optimizer)

    def update(self, loss: Tensor, lr: float) -> None:
        """One optimizer step down a loss.

        Parameters
        ----------
        loss : Tensor
            Scalar.
        lr : float
            Learning rate of this step.
        """
        set_lr(self.optimizer, lr)
        self._stepper.zero_grad()
        self.accelerator.backward(loss)
        if self.recipe.clip is not None:
            self._clip(self.recipe.clip)
        self._stepper.step()

    def fix_gauge(self) -> None:
        """Bring Riemannian frames into their gauge, momentum with them."""
        sr.gauge_fix(self.model, self.optimizer)

    def _clip(self, largest: float) -> None:
        self.accelerator.unscale_gradients(self._stepper)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        for p in parameters:
            # Only the tangent part moves a frame, so only it counts
            if isinstance(p, geoopt.ManifoldParameter):
                p.grad = p.manifold.egrad2rgrad(p.detach(), p.grad)
        torch.nn.utils.clip_grad_norm_(parameters, largest)
