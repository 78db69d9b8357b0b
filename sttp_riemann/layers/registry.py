"""Which layers have a spectral form."""

from __future__ import annotations

import importlib

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sttp_riemann.layers.attention import SplitAttention
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.layers.bilinear import SpectralBilinear
from sttp_riemann.layers.convolution import SpectralConv1d, SpectralConv2d, SpectralConv3d
from sttp_riemann.layers.embedding import SpectralEmbedding
from sttp_riemann.layers.embedding_bag import SpectralEmbeddingBag
from sttp_riemann.layers.experts import experts_for
from sttp_riemann.layers.linear import SpectralLinear
from sttp_riemann.layers.recurrent import RECURRENT
from sttp_riemann.layers.split import Split
from sttp_riemann.layers.transposed import SpectralConvTranspose1d, SpectralConvTranspose2d, SpectralConvTranspose3d

LAYERS: dict[type[nn.Module], type[SpectralLayer]] = {
    nn.Linear: SpectralLinear,
    NonDynamicallyQuantizableLinear: SpectralLinear,
    nn.Bilinear: SpectralBilinear,
    nn.Embedding: SpectralEmbedding,
    nn.EmbeddingBag: SpectralEmbeddingBag,
    nn.Conv1d: SpectralConv1d,
    nn.Conv2d: SpectralConv2d,
    nn.Conv3d: SpectralConv3d,
    nn.ConvTranspose1d: SpectralConvTranspose1d,
    nn.ConvTranspose2d: SpectralConvTranspose2d,
    nn.ConvTranspose3d: SpectralConvTranspose3d,
}
"""Layer classes that `reparameterize` handles, and what they become."""

ROWS: tuple[type[Split], ...] = (SplitAttention, *RECURRENT)
SPLITS: dict[type[nn.Module], type[Split]] = {kind.ordinary: kind for kind in ROWS}
"""Classes of modules with several matrices in one parameter, and what they become."""

NAMED = {
    "transformers.pytorch_utils.Conv1D": "sttp_riemann.layers.transposed_linear.SpectralTransposedLinear",
}
"""Classes of packages that this one does not import, and what they become: both by name."""


def row_for(kind: type[nn.Module]) -> type[SpectralLayer] | None:
    """What layers of a class become.

    Parameters
    ----------
    kind : type
        Class of an ordinary layer.

    Returns
    -------
    type or None
        Its row in `LAYERS`, which a class of `NAMED` gets here; None if it has none.
    """
    row = NAMED.get(f"{kind.__module__}.{kind.__qualname__}")
    if row is not None and kind not in LAYERS:
        module, _, name = row.rpartition(".")
        # The package of `kind` is imported already: it has an instance
        LAYERS[kind] = getattr(importlib.import_module(module), name)
    return LAYERS.get(kind)


def split_for(module: nn.Module) -> type[Split] | None:
    """What a module with several matrices in one parameter becomes.

    Parameters
    ----------
    module : nn.Module
        Any.

    Returns
    -------
    type or None
        None if it has no row in `SPLITS` and holds no experts, or lacks a parameter or a free name that it needs.
    """
    kind = SPLITS.get(type(module)) or experts_for(module)
    if kind is None:
        return None
    pieces = kind.pieces_of(module)
    free = not any(hasattr(module, name.split(".")[0]) for layers in pieces.values() for name in layers)
    return kind if free and all(module._parameters.get(name) is not None for name in pieces) else None
