"""How evenly the parameters of a path move the weight: the singular values of d W / d parameters."""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor
from torch.func import functional_call, jacrev

from sttp_riemann.factors import LayerCores, SpectralFactors
from sttp_riemann.layers.base import SpectralLayer

CHUNK = 64


def differential(layer: SpectralLayer) -> Tensor:
    """Singular values of the differential of W with respect to what its path's optimizer moves.

    Parameters
    ----------
    layer : SpectralLayer
        On either path.

    Returns
    -------
    Tensor
        Descending, float64, as many as there are independent directions: the degrees of freedom, less the scale of
        a learned spectrum, which its division by the maximum takes out.

    Notes
    -----
    On the Riemannian path the differential is taken on the tangent space, with the metric of the steps; along the
    gauge it is zero, and those zeros are left out, as no gradient points there.
    """
    factors = _alone(layer)
    names = [name for name, _ in factors.named_parameters()]
    points = dict(factors.named_parameters())

    def weight(*values: Tensor) -> Tensor:
        return functional_call(_Weight(factors), {f"factors.{n}": v for n, v in zip(names, values, strict=True)}, ())

    values = tuple(p.detach().as_subclass(Tensor) for p in points.values())
    blocks = jacrev(weight, argnums=tuple(range(len(values))), chunk_size=CHUNK)(*values)
    rows = []
    for name, value, block in zip(names, values, blocks, strict=True):
        flat = block.reshape(-1, *value.shape)
        point = points[name]
        if isinstance(point, geoopt.ManifoldParameter):
            flat = point.manifold.proju(value, flat)
        rows.append(flat.flatten(1))
    count = factors.dof(0) - (1 if factors.spectra.kind == "learned" else 0)
    return torch.linalg.svdvals(torch.cat(rows, 1))[:count]


class _Weight(torch.nn.Module):
    def __init__(self, factors: SpectralFactors) -> None:
        super().__init__()
        self.factors = factors

    def forward(self) -> Tensor:
        return self.factors.weight(0)


@torch.no_grad()
def _alone(layer: SpectralLayer) -> SpectralFactors:
    """The factors of one layer without the others, in float64."""
    shared, index = layer.factors, layer.index
    left, _, right = shared.cores(index)
    row = shared.layout.order.index(index)
    stored = shared.spectra.S
    spectrum = torch.ones(layer.rank) if stored is None else stored.split(shared.spectra.ranks)[row]
    cores = LayerCores([c.double() for c in left], spectrum.double(), [c.double() for c in right])
    bound = shared.spectra.bound[row : row + 1].double()
    kind, dtype = shared.spectra.kind, torch.float64
    return SpectralFactors([shared.shapes[index]], [cores], shared.frames, kind, bound, dtype, bound.device)
