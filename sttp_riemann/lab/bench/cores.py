"""The cores of the network that optimizer and contraction are measured on, as ours and one by one."""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor, nn

from sttp_riemann.lab.bench.networks import wide_resnet
from sttp_riemann.lab.bench.variants import STTP
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.reparameterize import spectral_layers
from sttp_riemann.trains.shape import Core


def sttp_network(quick: bool, device: str, frames: str) -> nn.Module:
    """The network with STTP layers, in one kind of frame."""
    study = wide_resnet(quick)
    variant = next(v for v in STTP if v.frames == frames)
    return variant.apply(study.build(), study.rank).to(device)


def layers_of(model: nn.Module) -> list[SpectralLayer]:
    """Its reparameterized layers."""
    return list(spectral_layers(model).values())


def frame_parameters(model: nn.Module) -> list[Tensor]:
    """Parameters that are frames."""
    return [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]


def random_cores(quick: bool, device: str) -> list[Tensor]:
    """Orthonormal matrices in the shapes of all cores, one tensor each."""
    generator = torch.Generator().manual_seed(0)
    shapes = [layer.shape for layer in layers_of(sttp_network(quick, "cpu", "riemannian"))]
    cores = [core for shape in shapes for train in (shape.left, shape.right) for core in train.cores]
    return [random_frame(core, generator).to(device) for core in cores]


def random_frame(core: Core, generator: torch.Generator) -> Tensor:
    """Orthonormal (rows, inner) matrix."""
    return torch.linalg.qr(torch.randn(core.rows, core.inner, generator=generator))[0]
