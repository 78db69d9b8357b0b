"""What is told of a network beside its task: size, singular values, orthogonality; dense ones included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import sttp_riemann as sr

MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def dense_weights(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, Tensor]:
    """Weights that `reparameterize` would replace, as matrices (d_out, d_in), by layer name."""
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, MATRICES) and name not in exclude:
            weight = layer.weight.detach()
            found[name] = (weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else weight).flatten(1)
    return found


def sizes(model: nn.Module, method: str, exclude: Sequence[str] = ()) -> dict[str, float]:
    """Numbers of a network: of its weight matrices, of what is kept for them, and the compression Z in percent."""
    if method == "dense":
        dense = sum(w.numel() for w in dense_weights(model, exclude).values())
        return {"dof": dense, "stored": dense, "dense": dense, "ratio": 100.0}
    table = sr.compression(model)
    return {"dof": table.dof, "stored": table.stored, "dense": table.dense, "ratio": float(table.ratio)}


@torch.no_grad()
def spectra(model: nn.Module, method: str, exclude: Sequence[str] = ()) -> dict[str, list[float]]:
    """Singular values of every weight matrix, descending, by layer name."""
    if method == "dense":
        values = {name: torch.linalg.svdvals(w.float()) for name, w in dense_weights(model, exclude).items()}
    else:
        values = sr.singular_values(model)
    return {name: [float(v) for v in s] for name, s in values.items()}


@torch.no_grad()
def orthogonality(model: nn.Module, method: str) -> dict[str, float]:
    """Largest entry of ``X^T X - I`` over all frames; nothing of a dense network, which has none."""
    return {} if method == "dense" else {"orthogonality_error": float(sr.orthogonality_error(model))}


def summary(model: nn.Module, method: str, exclude: Sequence[str] = ()) -> dict[str, Any]:
    """All of the above of a finished network."""
    values = spectra(model, method, exclude)
    return {
        **sizes(model, method, exclude),
        "singular_values": values,
        "largest_singular_value": max(s[0] for s in values.values()),
    }
