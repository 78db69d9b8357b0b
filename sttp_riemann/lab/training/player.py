"""A network with its optimizer: a classifier has one, a GAN two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import geoopt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError, one_line
from sttp_riemann.lab.training.batchnorm import share_statistics
from sttp_riemann.lab.training.optimizers import build_optimizer, set_lr
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import refuse_bad_step
from sttp_riemann.model.averages import Averaged

Part = TypeVar("Part")


class Player:
    """A network in training, on the device and in the precision of the recipe.

    Parameters
    ----------
    model : nn.Module
        The network; moved to the device in place.
    recipe : Recipe
        Optimizer, learning rate, clipping, averaging.
    accelerator : Accelerator
        Device, precision, processes.

    Raises
    ------
    RecipeError
        The recipe's penalty cannot be of this network.

    Attributes
    ----------
    model : nn.Module
        The network itself, without wrappers.
    network : nn.Module
        The callable: the network in the recipe's precision, its gradients shared between processes.
    average : Averaged or None
        Its running average, if the recipe asks for one.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.model = share_statistics(model.to(accelerator.device), accelerator)
        try:
            self.penalty()
        except ValueError as error:
            raise RecipeError(one_line(str(error))) from error
        # Copied before accelerate changes the model's forward
        self.average = Averaged(self.model, recipe.optimizer.ema) if recipe.optimizer.ema else None
        self.optimizer = build_optimizer(self.model, recipe)
        self.network, self._stepper = accelerator.prepare(self.model, self.optimizer)

    @property
    def result(self) -> nn.Module:
        """The network to evaluate: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def descend(self, parts: Sequence[Part], loss: Callable[[Part], Tensor], lr: float) -> float:
        """One optimizer step down the mean of a loss over equal parts of a batch.

        Parameters
        ----------
        parts : sequence
            Parts of the batch, computed one after the other.
        loss : callable
            From a part to a scalar.
        lr : float
            Learning rate of this step.

        Returns
        -------
        float
            The mean.

        Raises
        ------
        BadStepError
            The loss or a gradient is not finite; no parameter, moment or average has moved.
        """
        set_lr(self.optimizer, lr)
        self._stepper.zero_grad()
        total = torch.zeros((), device=self.accelerator.device)
        with sr.cached(self.model):  # no parameter changes before the step
            for number, part in enumerate(parts, start=1):
                with self._sharing(number == len(parts)):
                    share = loss(part) / len(parts)
                    self.accelerator.backward(share)
                total += share.detach()
        mean = total.item()
        # First, as clipping would spread NaN over all gradients
        refuse_bad_step(self.model, self.optimizer, mean, self.accelerator)
        if self.recipe.optimizer.clip is not None:
            self._clip(self.recipe.optimizer.clip)
        self._stepper.step()
        if self.average is not None:
            self.average.update(self.model)
        return mean

    def penalty(self) -> Tensor | float:
        """The recipe's spectral penalty of a low-rank network, with its weight; 0 elsewhere."""
        network = self.recipe.network
        if not network.low_rank or network.penalty == "none":
            return 0.0
        return network.penalty_weight * sr.spectral_penalty(self.model, kind=network.penalty)

    def fix_gauge(self) -> None:
        """Fix the gauge of Riemannian frames, pivot Householder ones; momentum and average follow."""
        if self.recipe.network.low_rank:
            sr.gauge_fix(self.model, self.optimizer, self.average)

    def _sharing(self, last: bool) -> AbstractContextManager[None]:
        """Share gradients between processes once per step, after its last part."""
        return nullcontext() if last else self.accelerator.no_sync(self.network)

    def _clip(self, largest: float) -> None:
        self.accelerator.unscale_gradients(self._stepper)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        for p in parameters:
            # Only the tangent part moves a frame, so only it counts
            if isinstance(p, geoopt.ManifoldParameter):
                p.grad = p.manifold.egrad2rgrad(p.detach(), p.grad)
        torch.nn.utils.clip_grad_norm_(parameters, largest)
