"""A model of the zoo in one method on one path, its dense twin, and how far outputs may move."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from row import Row
from torch import Tensor, nn

import sttp_riemann as sr

RANK, BOUND = 8, 4.0
RATES = (1e-3, 1e-4, 1e-5)
"""A step may be too long for the loss to fall; it falls with a short one, as the gradient says."""
TOLERANCE = 1e-3
"""How far outputs may move by rounding, relative to the distance to those of the same model with other weights.

Rounding moves weights by about 1e-6, which normalizations of a deep model enlarge; a wrong weight moves outputs by 1.
"""


class BrokenError(AssertionError):
    """A verb did not keep what it has to keep."""


def need(true: bool, text: str) -> None:
    """Raise `BrokenError` unless something is true."""
    if not true:
        raise BrokenError(text)


def seed() -> None:
    """Make dropout and what else is drawn in a forward the same each time."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of numbers in what a model returns."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors(value)
    elif hasattr(output, "latent_dist"):
        yield output.latent_dist.mean


class Case:
    """One model in one method on one path.

    Parameters
    ----------
    row : Row
        The model.
    dense : nn.Module
        Of `row`; not changed.
    method, frames : str
        As `reparameterize` takes them.

    Attributes
    ----------
    model : nn.Module
        Reparameterized, after one training step, in evaluation.
    optimizer : Optimizer
        That made the step.
    before, other : nn.Module
        The model before the step, and one of other weights.
    wanted : list of Tensor
        Outputs of `model`.
    """

    def __init__(self, row: Row, dense: nn.Module, method: str, frames: str) -> None:
        self.row, self.dense, self.method, self.frames = row, dense, method, frames
        self.batch = row.batch()
        self.before, self.other = self.spectral(), self.spectral(seed=1)
        self.model, self.optimizer, self.losses = self.trained(self.before)
        self.wanted = self.outputs(self.model)
        self.unit = distance(self.outputs(self.before), self.outputs(self.other))
        need(self.unit > 0, "outputs do not depend on the weights")

    def spectral(self, **options: Any) -> nn.Module:
        """A fresh model with layers of the method on the path."""
        own = {"rank": RANK, "spectral_bound": BOUND, **options}
        return sr.reparameterize(copy.deepcopy(self.dense), method=self.method, frames=self.frames, **own)

    def call(self, model: nn.Module) -> list[Tensor]:
        """All tensors of numbers that a model returns for the batch."""
        seed()
        own = self.batch
        found = list(tensors(model(**own) if isinstance(own, dict) else model(*own)))
        need(bool(found), "no outputs")
        return found

    def outputs(self, model: nn.Module) -> list[Tensor]:
        """Those in evaluation, without gradients."""
        with torch.no_grad():
            found = self.call(model)
        need(all(t.isfinite().all() for t in found), "outputs are not finite")
        return found

    def loss(self, model: nn.Module) -> Tensor:
        """Distance of the outputs to a constant."""
        return sum(((t - 1).square().mean() for t in self.call(model)), torch.zeros(()))

    def trained(self, model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer, list[float]]:
        """A copy after one training step, its optimizer, and the losses before and after; in evaluation."""
        for lr in RATES:
            moved = copy.deepcopy(model).train()
            kind = sr.RiemannianAdam if self.frames == "riemannian" else torch.optim.Adam
            optimizer = kind([p for p in moved.parameters() if p.requires_grad], lr=lr)
            first = self.loss(moved)
            first.backward()
            optimizer.step()
            with torch.no_grad():
                losses = [float(first.detach()), float(self.loss(moved))]
            if losses[1] < losses[0]:
                break
        return moved.eval(), optimizer, losses

    def same(self, model: nn.Module, exact: bool = False, wanted: list[Tensor] | None = None) -> None:
        """Check that a model has the outputs of this one: bit for bit, or up to rounding."""
        found, wanted = self.outputs(model), self.wanted if wanted is None else wanted
        need([t.shape for t in found] == [t.shape for t in wanted], "outputs of another shape")
        if exact:
            need(all(map(torch.equal, found, wanted)), f"outputs differ, by {distance(found, wanted) / self.unit:.1e}")
        moved = distance(found, wanted) / self.unit
        need(moved <= TOLERANCE, f"outputs moved by {moved:.1e}")


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    """Euclidean, between the outputs of two models."""
    pairs = zip(some, others, strict=True)
    return float(sum(((a.double() - b.double()).square().sum() for a, b in pairs), torch.zeros(())).sqrt())
