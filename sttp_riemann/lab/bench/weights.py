"""All weights of a network from their cores, forward and backward: in batches, and core by core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sttp_riemann.batch.cached import cached
from sttp_riemann.frames.householder import reflectors_of
from sttp_riemann.lab.bench.chains import by_one_einsum, by_steps
from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.cores import layers_of, random_frame, sttp_network
from sttp_riemann.lab.bench.networks import wide_resnet
from sttp_riemann.lab.bench.peers import INSTALL, installed
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.variants import noise
from sttp_riemann.trains.shape import LayerShape

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
    model = sttp_network(quick, device, frames)
    layers, parameters = layers_of(model), list(model.parameters())
    gradients = _gradients([layer.shape for layer in layers], device)

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        with cached(model):
            weights = [layer.to_matrix(layer.built_weight()) for layer in layers]
        torch.autograd.backward(weights, gradients)

    return run


def build_core_by_core(quick: bool, device: str, peer: str) -> Run:
    """Set up the same as it is commonly done: one Householder product a core, and one of `PEERS` a layer."""
    from torch_householder import torch_householder_orgqr

    shapes = [layer.shape for layer in layers_of(sttp_network(quick, "cpu", "riemannian"))]
    gradients = _gradients(shapes, device)
    generator = torch.Generator().manual_seed(0)
    layers = [_Layer(shape, generator, device) for shape in shapes]

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


def _gradients(shapes: Sequence[LayerShape], device: str) -> list[Tensor]:
    return [noise((shape.d_out, shape.d_in), device, seed) for seed, shape in enumerate(shapes)]
