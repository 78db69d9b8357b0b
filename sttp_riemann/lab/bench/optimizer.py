"""One optimizer step on all cores of a network: equal cores stepped together, and one by one by geoopt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import geoopt
import torch
from geoopt.manifolds.stiefel import EuclideanStiefel
from torch import Tensor

from sttp_riemann.batch.cached import cached
from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.cores import frame_parameters, layers_of, random_cores, sttp_network
from sttp_riemann.lab.bench.networks import wide_resnet
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.variants import LR, noise
from sttp_riemann.optim import RiemannianAdam

OURS = "RiemannianAdam (ours)"


def contests(settings: Settings) -> list[Contest]:
    """All cores of WRN-28-10, STTP on the Riemannian path."""
    where = (settings.quick, settings.device)
    contestants = (
        Contestant(OURS, partial(build_ours, *where)),
        Contestant("separate cores, geoopt's EuclideanStiefel and RiemannianAdam", partial(build_geoopt, *where)),
    )
    return [Contest(f"all STTP cores of {wide_resnet(settings.quick).title}", contestants, OURS)]


def build_ours(quick: bool, device: str) -> Run:
    """Set up the step on the cores that the layers own."""
    model = sttp_network(quick, device, "riemannian")
    frames = frame_parameters(model)
    # As a backward leaves them, with entries as those of the peer's
    with cached(model):
        weights = [layer.to_matrix(layer.built_weight()) for layer in layers_of(model)]
    torch.autograd.backward(weights, [torch.zeros_like(weight) for weight in weights])
    with torch.no_grad():
        for seed, frame in enumerate(frames):
            frame.grad.copy_(noise(frame.shape, device, seed))  # type: ignore[union-attr]
    return RiemannianAdam(frames, lr=LR).step


def build_geoopt(quick: bool, device: str) -> Run:
    """Set up the step on every core as a parameter of its own, with geoopt's manifold and optimizer as they come."""
    manifold = EuclideanStiefel()
    cores = [geoopt.ManifoldParameter(core, manifold=manifold) for core in random_cores(quick, device)]
    _give_gradients(cores)
    step: Run = geoopt.optim.RiemannianAdam(cores, lr=LR).step
    return step


def _give_gradients(parameters: Sequence[Tensor]) -> None:
    for seed, parameter in enumerate(parameters):
        parameter.grad = noise(parameter.shape, parameter.device.type, seed)
