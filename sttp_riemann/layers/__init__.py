"""Layers whose weight is W = U diag(s) V^T: ordinary torch layers, except for where the weight comes from."""

from sttp_riemann.layers.base import SpectralLayer, kind_of
from sttp_riemann.layers.registered import register_layer
from sttp_riemann.layers.registry import LAYERS, row_for

__all__ = ["LAYERS", "SpectralLayer", "kind_of", "register_layer", "row_for"]
