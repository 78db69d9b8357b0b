"""How far float32 leads training astray: the same descent in float32 and in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.optim import RiemannianAdam

FEATURES = 64
RATE = 1e-2


@dataclass(frozen=True)
class Drift:
    """Where a descent in float32 ends.

    Attributes
    ----------
    distance : float
        Relative Frobenius distance of W to that of the same descent in float64.
    orthogonality : float
        Largest entry of abs(X^T X - I) over all frames, at the end.
    """

    distance: float
    orthogonality: float


def drift(method: str, frames: str, rank: int, steps: int) -> Drift:
    """Let a layer of 64 x 64 approach a fixed matrix in both precisions.

    Parameters
    ----------
    method : {"sttp", "svdp"}
        Of the layer.
    frames : {"riemannian", "householder"}
        Path.
    rank : int
        Of the layer.
    steps : int
        Of Adam, or of Riemannian Adam, with a learning rate that falls linearly to 0.

    Returns
    -------
    Drift
    """
    ends = {dtype: _descend(method, frames, rank, steps, dtype) for dtype in (torch.float32, torch.float64)}
    wide, narrow = (ends[dtype].weight.detach().double() for dtype in (torch.float64, torch.float32))
    distance = torch.linalg.matrix_norm(narrow - wide) / torch.linalg.matrix_norm(wide)
    return Drift(float(distance), float(sr.orthogonality_error(ends[torch.float32])))


def _descend(method: str, frames: str, rank: int, steps: int, dtype: torch.dtype) -> nn.Linear:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(FEATURES, FEATURES, generator=generator, dtype=torch.float64)
    target = (target / torch.linalg.matrix_norm(target, 2)).to(dtype)
    # The same start to the last bit of float32
    layer = nn.Linear(FEATURES, FEATURES, bias=False, dtype=torch.float32)
    sr.reparameterize(layer, min(rank, FEATURES), method, frames, init="orthogonal", seed=0)  # type: ignore[arg-type]
    layer = layer.to(dtype)
    kind = RiemannianAdam if frames == "riemannian" else torch.optim.Adam
    optimizer = kind(layer.parameters(), lr=RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer
