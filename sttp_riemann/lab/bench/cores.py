"""Jobs on all cores of a network: one optimizer step, building all weights, building all frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import geoopt
import torch
from geoopt.manifolds.stiefel import EuclideanStiefel
from torch import Tensor, nn

from sttp_riemann.batch.cached import cached
from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.frames import INSTALL, installed, reflectors
from sttp_riemann.lab.bench.networks import LR, PAPER, STTP, SVDP, Form, Job, noise
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.reparameterize import reparameterize, spectral_layers
from sttp_riemann.optim import RiemannianAdam
from sttp_riemann.trains.shape import Core, LayerShape, Train

OURS: dict[str, Form] = {form.frames: form for form in STTP}
MOMENTS = ("matrix", "polar", "cores")
"""The first is the one that geoopt has, to which the others are compared."""
BLOCKS = (2, 16)
RANK = 4
LOOKED_AT = 2
"""First forwards, at which frames are also checked; see `sttp_riemann.batch.watch`."""


def optimizer(settings: Settings) -> list[Contest]:
    """List the contest of optimizer steps on all STTP cores of WRN-28-10."""
    contestants = (
        *(Contestant(f"RiemannianAdam, {moment}", partial(our_step, settings, moment)) for moment in MOMENTS),
        Contestant("separate cores, geoopt's EuclideanStiefel and RiemannianAdam", partial(geoopt_step, settings)),
    )
    return [Contest(f"all STTP cores of {_network(settings).title}", contestants)]


def weights(settings: Settings) -> list[Contest]:
    """List the contest of building all W of WRN-28-10: both paths in batches, and core by core."""
    contestants = [
        Contestant(f"{frames}, batched (ours)", partial(our_weights, settings, frames)) for frames in reversed(OURS)
    ]
    missing = "" if installed("torch_householder") else INSTALL
    peer = "core by core: torch-householder, an einsum a core"
    contestants.append(Contestant(peer, partial(weights_core_by_core, settings), missing=missing))
    return [Contest(f"all W of {_network(settings).title}, STTP", tuple(contestants))]


def calls(settings: Settings) -> list[Contest]:
    """List a contest of few equal blocks against many for each low-rank form, forward and backward."""
    return [
        Contest(
            f"{form.name}, {direction}",
            tuple(Contestant(f"{n} blocks", partial(all_frames, form, n, settings.device, direction)) for n in BLOCKS),
        )
        for form in (*SVDP, *STTP)
        for direction in ("forward", "backward")
    ]


def our_step(settings: Settings, moment: str) -> Run:
    """Set up the step on the cores that the layers own, with a kind of second moment."""
    model = _sttp(settings, "riemannian")
    frames = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    # As a backward leaves them, with entries as those of the peer's
    with cached(model):
        built = [layer.to_matrix(layer.built_weight()) for layer in _layers(model)]
    torch.autograd.backward(built, [torch.zeros_like(weight) for weight in built])
    with torch.no_grad():
        for seed, frame in enumerate(frames):
            frame.grad.copy_(noise(frame.shape, settings.device, seed))
    return RiemannianAdam(frames, lr=LR, moment=moment).step


def geoopt_step(settings: Settings) -> Run:
    """Set up the step on every core as a parameter of its own, with geoopt's manifold and optimizer as they come."""
    generator, shapes = torch.Generator().manual_seed(0), _shapes(settings)
    cores = [core for shape in shapes for train in (shape.left, shape.right) for core in train.cores]
    points = [_random_frame(core, generator).to(settings.device) for core in cores]
    parameters = [geoopt.ManifoldParameter(point, manifold=EuclideanStiefel()) for point in points]
    for seed, parameter in enumerate(parameters):
        parameter.grad = noise(parameter.shape, settings.device, seed)
    step: Run = geoopt.optim.RiemannianAdam(parameters, lr=LR).step
    return step


def our_weights(settings: Settings, frames: str) -> Run:
    """Set up building all W in batches, and carrying fixed gradients back."""
    model = _sttp(settings, frames)
    layers, gradients = _layers(model), _gradients(_shapes(settings), settings.device)

    def run() -> None:
        model.zero_grad()
        with cached(model):
            built = [layer.to_matrix(layer.built_weight()) for layer in layers]
        torch.autograd.backward(built, gradients)

    return run


def weights_core_by_core(settings: Settings) -> Run:
    """Set up the same as it is commonly done: a Householder product a core, and one layer at a time."""
    from torch_householder import torch_householder_orgqr

    shapes, generator = _shapes(settings), torch.Generator().manual_seed(0)
    gradients = _gradients(shapes, settings.device)

    def start(train: Train) -> list[Tensor]:
        frames = (_random_frame(core, generator).unsqueeze(0).to(settings.device) for core in train.cores)
        return [reflectors(frame)[0].detach().requires_grad_() for frame in frames]

    layers = [
        (shape, start(shape.left), torch.ones(shape.rank, device=settings.device, requires_grad=True),
         start(shape.right))
        for shape in shapes
    ]  # fmt: skip

    def run() -> None:
        built = []
        for shape, left, spectrum, right in layers:
            for parameter in (*left, spectrum, *right):
                parameter.grad = None
            u, v = ([torch_householder_orgqr(h) for h in train] for train in (left, right))
            built.append(by_steps(shape, u, spectrum / spectrum.abs().max(), v))
        torch.autograd.backward(built, gradients)

    return run


def all_frames(form: Form, blocks: int, device: str, direction: str) -> Run:
    """Set up building U diag(s) and V of all layers of a network of equal blocks, or carrying gradients back to cores.

    Parameters
    ----------
    form : Form
        Of low rank.
    blocks : int
        Equal blocks of a convolution, a 1x1 convolution and a linear layer.
    device : {"cpu", "cuda"}
        Where to compute.
    direction : {"forward", "backward"}
        Which of both a call does; the backward can be called once.

    Returns
    -------
    callable
    """
    assert form.method is not None
    kinds = ((nn.Conv2d(12, 12, 3), nn.Conv2d(12, 20, 1), nn.Linear(16, 24)) for _ in range(blocks))
    model = nn.Sequential(*(layer for block in kinds for layer in block))
    reparameterize(model, RANK, form.method, form.frames, init="orthogonal").to(device)

    def forward() -> list[Tensor]:
        with cached(model):
            return [factor for layer in _layers(model) for factor in layer.factors()]

    for _ in range(LOOKED_AT):
        forward()
    if direction == "forward":
        return forward
    built = forward()
    gradients = [torch.ones_like(factor) for factor in built]
    return lambda: torch.autograd.backward(built, gradients)


def by_steps(shape: LayerShape, left: Sequence[Tensor], values: Tensor, right: Sequence[Tensor]) -> Tensor:
    """Contract each train from its outer end, an einsum a core, then U, s and V: the cheapest order there is.

    Parameters
    ----------
    shape : LayerShape
        Of the layer.
    left, right : sequence of Tensor
        Matricized cores (rows, inner), from the outer ends to the spectrum.
    values : Tensor
        (rank,) singular values.

    Returns
    -------
    Tensor
        W (d_out, d_in).
    """
    u, v = _frame_of(shape.left, left, values), _frame_of(shape.right, right, values)
    return torch.einsum("ik,k,jk->ij", u, values, v)


def _frame_of(train: Train, frames: Sequence[Tensor], like: Tensor) -> Tensor:
    if not frames:
        return torch.eye(train.dim, train.rank, dtype=like.dtype, device=like.device)
    product = frames[0]
    for core, frame in zip(train.cores[1:], frames[1:], strict=True):
        if train.side == "left":
            product = torch.einsum("ia,amb->imb", product, frame.view(core.outer, core.mode, core.inner))
        else:
            product = torch.einsum("ia,mab->mib", product, frame.view(core.mode, core.outer, core.inner))
        product = product.flatten(0, 1)
    return product


def _network(settings: Settings) -> Job:
    """Give the network with the most and the largest cores."""
    return PAPER[settings.quick][1]


def _sttp(settings: Settings, frames: str) -> nn.Module:
    network = _network(settings)
    return OURS[frames].apply(network.built(), network.rank).to(settings.device)


def _layers(model: nn.Module) -> list[SpectralLayer]:
    return list(spectral_layers(model).values())


def _shapes(settings: Settings) -> list[LayerShape]:
    return [layer.shape for layer in _layers(_sttp(settings, "riemannian"))]


def _random_frame(core: Core, generator: torch.Generator) -> Tensor:
    """Give a random orthonormal (rows, inner) matrix."""
    return torch.linalg.qr(torch.randn(core.rows, core.inner, generator=generator))[0]


def _gradients(shapes: Sequence[LayerShape], device: str) -> list[Tensor]:
    return [noise((shape.d_out, shape.d_in), device, seed) for seed, shape in enumerate(shapes)]
