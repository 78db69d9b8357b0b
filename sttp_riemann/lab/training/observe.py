"""Task-independent measures of a run's networks, dense or not: size, singular values, state of the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.compression import ratio_of
from sttp_riemann.model.pivots import chart_margin_of
from sttp_riemann.model.weights import distinct, frame_error, layer_numbers, layer_values, weighted_layers


def sizes(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, float]:
    """Degrees of freedom and stored numbers of a network's weights, and the compression Z in percent."""
    numbers = [layer_numbers(layer) for layer in distinct(weighted_layers(model, exclude)).values()]
    dof, stored, dense = (sum(getattr(own, name) for own in numbers) for name in ("dof", "stored", "dense"))
    return {"dof": dof, "stored": stored, "dense": dense, "ratio": ratio_of(model)}


def spectra(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, list[float]]:
    """Singular values of every weight, descending, by layer name."""
    return {name: layer_values(layer).tolist() for name, layer in weighted_layers(model, exclude).items()}


def frames(model: nn.Module) -> dict[str, float]:
    """Largest entry of ``X^T X - I`` and chart margin over all frames; empty for a dense network, which has none."""
    layers = [layer for layer in weighted_layers(model).values() if isinstance(layer, SpectralLayer)]
    if not layers:
        return {}
    return {"orthogonality_error": max(map(frame_error, layers)), "chart_margin": min(map(chart_margin_of, layers))}


def summary(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, Any]:
    """All of the above of a finished network."""
    values = spectra(model, exclude)
    return {
        **sizes(model, exclude),
        "singular_values": values,
        "largest_singular_value": max((s[0] for s in values.values()), default=0.0),
    }
