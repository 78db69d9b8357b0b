"""All weights of a network from their cores, forward and backward: in batches, and core by core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sttp_riemann.factors import SpectralFactors
from sttp_riemann.frames.householder import reflectors_of
from sttp_riemann.study.bench.contest import Contest, Contestant, Run
from sttp_riemann.study.bench.cores import random_frame, riemannian_factors, sttp_factors
from sttp_riemann.study.bench.networks import wide_resnet
from sttp_riemann.study.bench.peers import INSTALL, installed
from sttp_riemann.study.bench.settings import Settings
from sttp_riemann.study.bench.variants import noise
from sttp_riemann.tt import LayerShape, Train

PEER = "core by core (torch-householder, einsum)"


def contests(settings: Settings) -> list[Contest]:
    """All W of WRN-28-10 from STTP cores, both of our paths against core by core."""
    where = (settings.quick, settings.device)
    ours = {frames: f"{frames}, batched (ours)" for frames in ("riemannian", "householder")}
    contestants = [Contestant(name, partial(build_ours, *where, frames)) for frames, name in ours.items()]
    missing = "" if installed("torch_householder") else INSTALL
    contestants.append(Contestant(PEER, partial(build_core_by_core, *where), missing=missing))
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


def build_core_by_core(quick: bool, device: str) -> Run:
    """Set up the same as it is commonly done: one Householder product a core, one chain of einsums a layer."""
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
            u, v = chain(layer.shape.left, left, values), chain(layer.shape.right, right, values)
            weights.append(torch.einsum("ik,k,jk->ij", u, values, v))
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


def chain(train: Train, frames: Sequence[Tensor], like: Tensor) -> Tensor:
    """Contract one train from the outer end, core by core.

    Parameters
    ----------
    train : Train
        Its shape.
    frames : sequence of Tensor
        Matricized cores (rows, inner), from the outer end to the spectrum.
    like : Tensor
        Gives dtype and device where the train has no cores.

    Returns
    -------
    Tensor
        (dim, rank), orthonormal columns.
    """
    if not frames:
        return torch.eye(train.dim, train.rank, dtype=like.dtype, device=like.device)
    product = frames[0]
    for core, frame in zip(train.cores[1:], frames[1:], strict=True):
        if train.side == "left":
            product = torch.einsum("ia,amb->imb", product, frame.view(core.outer, core.mode, core.inner))
        else:
            product = torch.einsum("ia,mab->mib", product, frame.view(core.mode, core.outer, core.inner))
        product = product.reshape(-1, core.inner)
    return product


def _gradients(factors: SpectralFactors, device: str) -> list[Tensor]:
    return [noise((shape.d_out, shape.d_in), device, seed) for seed, shape in enumerate(factors.shapes)]
