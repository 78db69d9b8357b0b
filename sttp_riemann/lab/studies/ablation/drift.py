"""How far float32 leads training astray: the same descent in float32 and in float64."""

from __future__ import annotations

import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.optim import RiemannianAdam

FEATURES = 64
RATE = 1e-2


def drift(method: str, frames: str, rank: int, steps: int, seed: int = 0) -> float:
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
    seed : int
        Of the matrix and the start.

    Returns
    -------
    float
        Relative Frobenius distance of the W of float32 to that of float64.
    """
    wide, narrow = (
        _descend(method, frames, rank, steps, seed, dtype).weight.detach().double()
        for dtype in (torch.float64, torch.float32)
    )
    return float(torch.linalg.matrix_norm(narrow - wide) / torch.linalg.matrix_norm(wide))


def _descend(method: str, frames: str, rank: int, steps: int, seed: int, dtype: torch.dtype) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(FEATURES, FEATURES, generator=generator, dtype=torch.float64)
    target = (target / torch.linalg.matrix_norm(target, 2)).to(dtype)
    # The same start to the last bit of float32
    layer = nn.Linear(FEATURES, FEATURES, bias=False, dtype=torch.float32)
    sr.reparameterize(layer, min(rank, FEATURES), method, frames, init="orthogonal", seed=seed)  # type: ignore[arg-type]
    layer = layer.to(dtype)
    kind = RiemannianAdam if frames == "riemannian" else torch.optim.Adam
    optimizer = kind(layer.parameters(), lr=RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer
