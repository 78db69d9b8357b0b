"""Layers whose weight is W = U diag(s) V^T: ordinary torch layers, except for where the weight comes from."""

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sttp_riemann.layers.base import SpectralLayer, kind_of
from sttp_riemann.layers.convolution import SpectralConv1d, SpectralConv2d, SpectralConv3d
from sttp_riemann.layers.embedding import SpectralEmbedding
from sttp_riemann.layers.linear import SpectralLinear
from sttp_riemann.layers.transposed import SpectralConvTranspose1d, SpectralConvTranspose2d, SpectralConvTranspose3d

LAYERS: dict[type[nn.Module], type[SpectralLayer]] = {
    nn.Linear: SpectralLinear,
    NonDynamicallyQuantizableLinear: SpectralLinear,
    nn.Embedding: SpectralEmbedding,
    nn.Conv1d: SpectralConv1d,
    nn.Conv2d: SpectralConv2d,
    nn.Conv3d: SpectralConv3d,
    nn.ConvTranspose1d: SpectralConvTranspose1d,
    nn.ConvTranspose2d: SpectralConvTranspose2d,
    nn.ConvTranspose3d: SpectralConvTranspose3d,
}
"""Layer classes that `reparameterize` handles, and what they become."""

__all__ = ["LAYERS", "SpectralLayer", "kind_of"]
