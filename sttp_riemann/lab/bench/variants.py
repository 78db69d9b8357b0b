"""A network dense and in each low-rank form, with the optimizer that trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.batch.cached import cached
from sttp_riemann.lab.bench.contest import Run
from sttp_riemann.layers.recompute import Recompute
from sttp_riemann.model.reparameterize import reparameterize
from sttp_riemann.optim import RiemannianAdam
from sttp_riemann.trains.shape import Method

LR = 1e-4


@dataclass(frozen=True)
class Variant:
    """A form of a network; without a method it stays dense."""

    name: str
    method: Method | None = None
    frames: Literal["riemannian", "householder"] = "riemannian"
    recompute: Recompute = "auto"

    def apply(self, model: nn.Module, rank: int) -> nn.Module:
        """Bring a network into this form, in place."""
        if self.method is None:
            return model
        return reparameterize(model, rank, self.method, self.frames, init="orthogonal", recompute=self.recompute)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Adam, on the manifold where there are frames on it."""
        kind = RiemannianAdam if self.method is not None and self.frames == "riemannian" else torch.optim.Adam
        options = {} if kind is RiemannianAdam else {"fused": True}
        optimizer: Optimizer = kind(model.parameters(), lr=LR, **options)  # type: ignore[arg-type]
        return optimizer


DENSE = Variant("dense")
STTP = (Variant("STTP riemannian", "sttp"), Variant("STTP householder", "sttp", "householder"))
SVDP = (Variant("SVDP riemannian", "svdp"), Variant("SVDP householder", "svdp", "householder"))
KEEPING = tuple(replace(v, name=f"{v.name}, keeping V^T x", recompute="never") for v in (*SVDP, *STTP))
VARIANTS = (DENSE, *SVDP, *STTP, *KEEPING)


def training_step(
    model: nn.Module,
    variant: Variant,
    rank: int,
    loss: Callable[[nn.Module], Tensor],
    device: str,
    compiled: bool = False,
) -> Run:
    """Set up a full training step: gradients cleared, forward, backward, optimizer.

    Parameters
    ----------
    model : nn.Module
        Dense; changed in place.
    variant : Variant
        What to turn it into.
    rank : int
        Rank of its layers, unless they stay dense.
    loss : callable
        From the network to a scalar.
    device : {"cpu", "cuda"}
        Where to compute.
    compiled : bool
        Whether to pass the network through `torch.compile`.

    Returns
    -------
    callable
        One step a call.
    """
    model = variant.apply(model, rank).to(device).train()
    optimizer = variant.optimizer(model)
    called: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cached(model):  # a discriminator is called twice a step
            loss(called).backward()
        optimizer.step()

    return step


def noise(shape: Sequence[int], device: str, seed: int = 0) -> Tensor:
    """Inputs that are the same for every variant."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)
