"""How evenly the parameters of a path move the weight: the singular values of d W / d parameters."""

from __future__ import annotations

import copy

import geoopt
import torch
from torch import Tensor
from torch.func import functional_call, jacrev

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
    layer = copy.deepcopy(layer).double()
    points = {name: p for name, p in layer.named_parameters() if p in set(layer.factor_parameters())}
    names, values = list(points), tuple(p.detach().as_subclass(Tensor) for p in points.values())

    def weight(*values: Tensor) -> Tensor:
        return functional_call(_Weight(layer), {f"layer.{n}": v for n, v in zip(names, values, strict=True)}, ())

    blocks = jacrev(weight, argnums=tuple(range(len(values))), chunk_size=CHUNK)(*values)
    rows = []
    for name, value, block in zip(names, values, blocks, strict=True):
        flat = block.reshape(-1, *value.shape)
        point = points[name]
        if isinstance(point, geoopt.ManifoldParameter):
            flat = point.manifold.proju(value, flat)
        rows.append(flat.flatten(1))
    count = layer.dof - (1 if layer.spectrum_kind == "learned" else 0)
    return torch.linalg.svdvals(torch.cat(rows, 1))[:count]


class _Weight(torch.nn.Module):
    def __init__(self, layer: SpectralLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        left, right = self.layer.factors()
        return left @ right.mT
