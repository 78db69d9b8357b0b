"""All weights of a network from their cores, forward and backward: in batches, and core by core."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from sttp_riemann.factors import SpectralFactors
from sttp_riemann.frames.householder import reflectors_of
from sttp_riemann.study.bench.chains import by_one_einsum, by_steps
from sttp_riemann.study.bench.contest import Contest, Contestant, Run
from sttp_riemann.study.bench.cores import random_frame, riemannian_factors, sttp_factors
from sttp_riemann.study.bench.networks import wide_resnet
from sttp_riemann.study.bench.peers import INSTALL, installed
from sttp_riemann.study.bench.settings import Settings
from sttp_riemann.study.bench.variants import noise
from sttp_riemann.tt import LayerShape

PEERS = {
    "core by core: torch-householder, an einsum a core": by_steps,
    "core by core: torch-householder, one einsum a layer": by_one_einsum,
}


def contests(settings: Settings) -> list[Contest]:
    """All W of WRN-28-10 from STTP cores, both of our paths against core by core."""
    where = (settings.quick, settings.device)
    ours = {frames: f"{frames}, batched (ours)" for frames in ("riemannian", "householder")}
    contestants = [Contestant(name, partial(build_ours, *where, frames)) for frames, name in ours.items()]
    missing = "" if installed("torch_householder") else INSTALL
    contestants += [Contestant(name, partial(build_core_by_core, *where, name), missing=missing) for name in PEERS]
    case = f"all W of {wide_resnet(settings.quick).title}, STTP"
    return [Contest(case, tuple(contestants), ours["householder"])]


def build_ours(quick: bool, device: str, frames: str) -> Run:
    """Set up building all W in batches, and carrying fixed gradients back."""
    factors = sttp_factors(quick, device, frames)
    parameters = list(factors.parameters())
    gradients = _gradients(factors, device)

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
            # As an optimizer's step does, so that nothing of the last call is still valid
            torch.autograd.graph.increment_version(parameter)
        torch.autograd.backward([factors.weight(i) for i in range(len(gradients))], gradients)

    return run


def build_core_by_core(quick: bool, device: str, peer: str) -> Run:
    """Set up the same as it is commonly done: one Householder product a core, and one of `PEERS` a layer."""
    from torch_householder import torch_householder_orgqr

    factors = riemannian_factors(quick, "cpu")
    gradients = _gradients(factors, device)
    generator = torch.Generator().manual_seed(0)
    layers = [_Layer(shape, generator, device) for shape in factors.shapes]

    def run() -> None:
        weights = []
        for layer in layers:
            for parameter in layer.parameters:
                parameter.grad = None
            left, right = ([torch_householder_orgqr(h) for h in train] for train in (layer.left, layer.right))
            values = layer.spectrum / layer.spectrum.abs().max()
            weights.append(PEERS[peer](layer.shape, left, values, right))
        torch.autograd.backward(weights, gradients)

    return run


class _Layer:
    """Reflectors of one layer's cores and its singular values, each a parameter of its own."""

    def __init__(self, shape: LayerShape, generator: torch.Generator, device: str) -> None:
        self.shape = shape
        self.left, self.right = (
            [_reflectors(random_frame(core, generator).to(device)) for core in train.cores]
            for train in (shape.left, shape.right)
        )
        self.spectrum = torch.ones(shape.rank, device=device, requires_grad=True)
        self.parameters = [*self.left, *self.right, self.spectrum]


def _reflectors(frame: Tensor) -> Tensor:
    return reflectors_of(frame.unsqueeze(0))[0][0].contiguous().requires_grad_()


def _gradients(factors: SpectralFactors, device: str) -> list[Tensor]:
    return [noise((shape.d_out, shape.d_in), device, seed) for seed, shape in enumerate(factors.shapes)]
