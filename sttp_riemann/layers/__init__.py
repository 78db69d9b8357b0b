"""Layers whose weight is W = U diag(s) V^T: ordinary torch layers, except for where the weight comes from."""

from sttp_riemann.layers.adapted import Adapted, adapted
from sttp_riemann.layers.base import SpectralLayer, kind_of
from sttp_riemann.layers.registered import register_layer
from sttp_riemann.layers.registry import LAYERS, SPLITS, row_for, split_for
from sttp_riemann.layers.split import Split, parts_of

__all__ = [
    "LAYERS",
    "SPLITS",
    "Adapted",
    "SpectralLayer",
    "Split",
    "adapted",
    "kind_of",
    "parts_of",
    "register_layer",
    "row_for",
    "split_for",
]
