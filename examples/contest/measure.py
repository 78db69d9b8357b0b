"""One contestant at work, and what is measured beside its losses."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import torch
from contestants import Contestant
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.lab.training.optimizers import build_optimizer, set_lr
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.testing.models import turn_

BATCHES, EVERY = 30, 20
FAILURES = (ValueError, torch.linalg.LinAlgError)
RANK = 8
OPTIONS: dict[str, Any] = {"method": "sttp", "spectrum": "identity", "init": "orthogonal"}


class Fit:
    """A contestant that fits several targets side by side, each by a layer of its own; if one fails, all do."""

    def __init__(self, own: Contestant, rate: float, targets: int, seed: int, dtype: torch.dtype = torch.float64):
        self.own, self.rate, self.seconds = own, rate, 0.0
        self.layers, teachers = (fresh(targets, dtype) for _ in range(2))
        sr.reparameterize(teachers, RANK, seed=seed + 1, **OPTIONS)
        sr.reparameterize(self.layers, RANK, seed=seed, **OPTIONS, frames=own.frames, pivots=own.pivots)
        self.wanted = [teacher.weight.detach() for teacher in teachers]
        self.optimizer = build_optimizer(self.layers, own.recipe(rate))
        if own.pivots:
            sr.register_gauge_fix(self.layers, self.optimizer, every=EVERY)
        self.losses = [math.inf] * targets
        self.failed = False

    def advance(self, part: float) -> None:
        """Look at the losses, then take a step at this part of the rate; one that fails is the last one."""
        if self.failed:
            return
        begin = perf_counter()
        with sr.cached(self.layers):
            pairs = zip(self.layers, self.wanted, strict=True)
            losses = [(layer.weight - w).square().sum() / w.square().sum() for layer, w in pairs]
            self.optimizer.zero_grad()
            sum(losses).backward()
        self.losses = [loss.item() for loss in losses]
        self.failed = not all(map(math.isfinite, self.losses))
        if not self.failed:
            set_lr(self.optimizer, self.rate * part)
            try:
                self.optimizer.step()
            except FAILURES:
                self.failed = True
        if self.failed:
            self.losses = [math.inf] * len(self.losses)
        self.seconds += perf_counter() - begin


def fresh(count: int, dtype: torch.dtype) -> nn.ModuleList:
    """Dense layers of the size that all fits have."""
    return nn.ModuleList(nn.Linear(64, 96, bias=False, dtype=dtype) for _ in range(count))


def orthogonality(own: Contestant, rate: float, steps: int) -> float:
    """Largest orthogonality error over a fit in float32.

    Returns
    -------
    float
        NaN if it fails.
    """
    fit, worst = Fit(own, rate, 1, seed=0, dtype=torch.float32), 0.0
    for step in range(steps):
        fit.advance(1 - step / steps)
        worst = max(worst, sr.orthogonality_error(fit.layers))
    return math.nan if fit.failed else worst


def gauge(own: Contestant, rate: float) -> float:
    """Distance of two copies of a layer, in two gauges, after the same batches.

    Parametrizations begin with the same frames as the two copies, each in a matrix A of its own.

    Returns
    -------
    float
        Relative, in the Frobenius norm; NaN where frames have no gauge, or the optimizer fails.
    """
    if own.frames == "householder":
        return math.nan
    weights = []
    for turned in (False, True):
        points, layers, teacher = (fresh(1, torch.float64) for _ in range(3))
        sr.reparameterize(points, RANK, seed=0, **OPTIONS)
        sr.reparameterize(layers, RANK, seed=0, **OPTIONS, frames=own.frames, pivots=False)
        sr.reparameterize(teacher, RANK, seed=1, **OPTIONS)
        if turned:
            turn_(points)
        _take(layers, points)
        optimizer = build_optimizer(layers, own.recipe(rate))
        generator = torch.Generator().manual_seed(2)
        for _ in range(BATCHES):
            inputs = torch.randn(32, 64, dtype=torch.float64, generator=generator)
            optimizer.zero_grad()
            # Of the size of the relative loss, for which the rate was chosen
            ((layers[0](inputs) - teacher[0](inputs).detach()).square().sum() / (len(inputs) * RANK)).backward()
            try:
                optimizer.step()
            except FAILURES:
                return math.nan
        weights.append(layers[0].weight.detach())
    return float(torch.linalg.matrix_norm(weights[1] - weights[0]) / torch.linalg.matrix_norm(weights[0]))


@torch.no_grad()
def _take(model: nn.Module, points: nn.Module) -> None:
    """Give the frames of one model to another one, in the gauge that they have."""
    for layer, other in zip(spectral_layers(model).values(), spectral_layers(points).values(), strict=True):
        for side, given in ((layer.left, other.left), (layer.right, other.right)):
            for k in range(len(given)):
                side.assign_(k, _detached(given[k]))


def _detached(point: Tensor | None) -> Tensor:
    assert point is not None, "every frame of a Riemannian layer is a parameter"
    return point.detach().as_subclass(Tensor)
