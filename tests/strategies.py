"""Random shapes, layers and models that the property tests draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann import frames
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.trains import shape, spectrum

# The same examples in every run, and no clock: shared machines stall.
settings.register_profile("sttp_riemann", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("sttp_riemann")

METHODS = st.sampled_from(shape.METHODS)
FRAMES = st.sampled_from([*frames.FRAMES])
SPECTRA = st.sampled_from(spectrum.SPECTRA)
SEEDS = st.integers(0, 2**16)
DTYPES = st.sampled_from([torch.float32, torch.float64])


@st.composite
def layer_dimensions(draw: st.DrawFn, largest: int = 24) -> tuple[int, tuple[int, ...], int]:
    """Rows, columns as (channels, *kernel), and a rank from 1 to beyond what fits."""
    d_out = draw(st.integers(1, largest))
    channels = draw(st.integers(1, largest))
    kernel = draw(st.sampled_from([(), (3,), (1, 1), (3, 2), (2, 2, 2)]))
    return d_out, (channels, *kernel), draw(st.integers(1, largest))


def random_frame(rows: int, rank: int, seed: int, batch: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniformly distributed frames, all column signs."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(batch, rows, rank, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).to(dtype)


LAYER_KINDS = {
    "linear": (lambda: nn.Linear(12, 18), (5, 12)),
    "linear without bias": (lambda: nn.Linear(12, 18, bias=False), (2, 3, 12)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), (2, 6, 9)),
    "conv2d": (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 9, 9)),
    "conv2d same": (lambda: nn.Conv2d(6, 8, (3, 5), padding="same", dilation=2), (2, 6, 9, 9)),
    "conv2d reflect": (lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (2, 6, 9, 9)),
    "conv2d unbatched": (lambda: nn.Conv2d(6, 8, 3), (6, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2), (2, 4, 5, 5, 5)),
    "grouped conv1d": (lambda: nn.Conv1d(6, 8, 3, groups=2), (2, 6, 9)),
    "grouped conv2d": (lambda: nn.Conv2d(8, 12, 3, padding=1, groups=4), (2, 8, 6, 6)),
    "grouped conv2d circular": (
        lambda: nn.Conv2d(8, 12, 3, padding=1, groups=2, padding_mode="circular"),
        (2, 8, 6, 6),
    ),
    "grouped conv2d unbatched": (lambda: nn.Conv2d(8, 12, 3, groups=4), (8, 6, 6)),
    "depthwise conv2d": (lambda: nn.Conv2d(8, 8, 3, groups=8), (2, 8, 6, 6)),
    "grouped conv3d": (lambda: nn.Conv3d(4, 6, 2, groups=2), (2, 4, 5, 5, 5)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(6, 8, 4, stride=2, padding=1), (2, 6, 5)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(6, 8, 3, stride=2, output_padding=1), (2, 6, 5, 5)),
    "transposed conv2d unbatched": (lambda: nn.ConvTranspose2d(6, 8, 3, dilation=2), (6, 5, 5)),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(4, 6, 2, bias=False), (2, 4, 3, 3, 3)),
    "grouped transposed conv2d": (lambda: nn.ConvTranspose2d(8, 12, 3, stride=2, groups=4), (2, 8, 5, 5)),
    "grouped transposed conv1d": (lambda: nn.ConvTranspose1d(6, 4, 3, groups=2), (6, 5)),
}


@torch.no_grad()
def whole_norm(layer: nn.Module, size: tuple[int, ...]) -> float:
    """Norm of a layer as an operator on one example, from its outputs for a basis; its bias becomes zero."""
    if layer.bias is not None:
        layer.bias.zero_()
    own = size[-1 - len(getattr(layer, "kernel_size", ())) :]
    return float(torch.linalg.matrix_norm(layer(torch.eye(math.prod(own)).view(-1, *own)).flatten(1).double(), 2))


def transposed_linear() -> nn.Module:
    """Imported here, as the package knows it by name only."""
    from transformers.pytorch_utils import Conv1D

    return Conv1D(18, 12)


EXAMPLES = {
    "Linear": (lambda: nn.Linear(12, 18), lambda: (torch.randn(5, 12),)),
    "output of attention": (lambda: nn.MultiheadAttention(12, 2).out_proj, lambda: (torch.randn(5, 12),)),
    "Conv1D of transformers": (transposed_linear, lambda: (torch.randn(2, 5, 12),)),
    "Bilinear": (lambda: nn.Bilinear(4, 6, 10), lambda: (torch.randn(5, 4), torch.randn(5, 6))),
    "Embedding": (lambda: nn.Embedding(14, 9), lambda: (torch.arange(14),)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(14, 9), lambda: (torch.arange(14), torch.tensor([0, 3, 7]))),
    "Conv1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), lambda: (torch.randn(2, 6, 9),)),
    "Conv2d": (lambda: nn.Conv2d(6, 8, 3, stride=2), lambda: (torch.randn(2, 6, 9, 9),)),
    "Conv3d": (lambda: nn.Conv3d(4, 6, 2), lambda: (torch.randn(2, 4, 5, 5, 5),)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(6, 8, 4, stride=2), lambda: (torch.randn(2, 6, 5),)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(6, 8, 3), lambda: (torch.randn(2, 6, 5, 5),)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(4, 6, 2), lambda: (torch.randn(2, 4, 3, 3, 3),)),
}
"""What makes a layer of each kind in `LAYERS`, and the inputs for a call of it: a new row there needs one here."""


def _rows(width: int, count: int = 3) -> Tensor:
    return torch.randn(count, 4, width)


def _same(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x, x, x


SPLIT_EXAMPLES = {
    "MultiheadAttention": (lambda: nn.MultiheadAttention(12, 2, batch_first=True), lambda: _same(_rows(12))),
    "MultiheadAttention of widths": (
        lambda: nn.MultiheadAttention(12, 2, kdim=8, vdim=6),
        lambda: (_rows(12), _rows(8), _rows(6)),
    ),
    "RNN": (lambda: nn.RNN(6, 8), lambda: (_rows(6),)),
    "LSTM": (lambda: nn.LSTM(6, 8, 2, bidirectional=True), lambda: (_rows(6),)),
    "GRU": (lambda: nn.GRU(6, 8, bias=False), lambda: (_rows(6),)),
    "RNNCell": (lambda: nn.RNNCell(6, 8), lambda: (torch.randn(5, 6),)),
    "LSTMCell": (lambda: nn.LSTMCell(6, 8), lambda: (torch.randn(5, 6),)),
    "GRUCell": (lambda: nn.GRUCell(6, 8), lambda: (torch.randn(5, 6),)),
}
"""What makes a module of each kind in `SPLITS`, and the inputs for a call of it: a new row there needs one here."""


def small_network() -> nn.Sequential:
    """Layers of several kinds, some of equal shape, for what concerns a whole model."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.ConvTranspose2d(16, 12, 4, 2, 1),
        nn.Conv2d(12, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def disturb(model: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """Move every parameter somewhere generic, frames along their manifold."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            step = scale * torch.randn(p.shape, dtype=p.dtype, generator=generator)
            if hasattr(p, "manifold"):
                p.copy_(p.manifold.retr(p, p.manifold.proju(p, step)))
            else:
                p.add_(step)
    return model


SPATIAL = {
    "conv1d": (nn.Conv1d, 1),
    "conv2d": (nn.Conv2d, 2),
    "conv3d": (nn.Conv3d, 3),
    "transposed conv1d": (nn.ConvTranspose1d, 1),
    "transposed conv2d": (nn.ConvTranspose2d, 2),
    "transposed conv3d": (nn.ConvTranspose3d, 3),
}


@st.composite
def layers(draw: st.DrawFn, largest: int = 12) -> tuple[Callable[[], nn.Module], Tensor]:
    """What makes a layer of any kind and shape, and an input for it."""
    kind = draw(st.sampled_from(["linear", "embedding", *SPATIAL]))
    d_in, d_out = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    if kind == "linear":
        bias = draw(st.booleans())
        return lambda: nn.Linear(d_in, d_out, bias), torch.randn(3, d_in)
    if kind == "embedding":
        return lambda: nn.Embedding(d_in, d_out), torch.arange(d_in)
    make, dims = SPATIAL[kind]
    groups, kernel = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 3))
    channels = (groups * -(-d_in // groups), groups * -(-d_out // groups))
    options = {"stride": draw(st.integers(1, 2)), "padding": draw(st.integers(0, kernel - 1)), "groups": groups}
    return lambda: make(*channels, kernel, **options), torch.randn(2, channels[0], *(4,) * dims)


@dataclass(frozen=True)
class Drawn:
    """Layers side by side, reparameterized together and moved somewhere generic.

    `again` makes the same model with other numbers; `inputs` has one input a layer; two computations of the same
    numbers agree to `tolerance`.
    """

    model: nn.ModuleList
    again: Callable[[], nn.ModuleList]
    inputs: list[Tensor]
    method: str
    spectrum: str
    rank: int
    tolerance: float

    def outputs(self, model: nn.ModuleList) -> list[Tensor]:
        """What each layer of a model makes of its input."""
        with torch.no_grad():
            return [layer(x) for layer, x in zip(model, self.inputs, strict=True)]

    def weights(self) -> list[Tensor]:
        """W of every layer, as a matrix."""
        return [layer.to_matrix(layer.weight.detach().clone()) for layer in self.model]


@st.composite
def reparameterized(draw: st.DrawFn, spectra: st.SearchStrategy[str] = SPECTRA) -> Drawn:
    """Models of one to three layers, any kind of frame, spectrum and dtype."""
    drawn = draw(st.lists(layers(), min_size=1, max_size=3))
    method, kind, values, dtype = draw(METHODS), draw(FRAMES), draw(spectra), draw(DTYPES)
    rank, seed = draw(st.integers(1, 14)), draw(SEEDS)

    def make(seed: int) -> nn.ModuleList:
        dense = nn.ModuleList(make() for make, _ in drawn).to(dtype)
        return disturb(sr.reparameterize(dense, rank, method, kind, values, "orthogonal", seed=seed), seed)

    inputs = [x.to(dtype) if x.is_floating_point() else x for _, x in drawn]
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    return Drawn(make(seed), lambda: make(seed + 1), inputs, method, values, rank, tolerance)


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    """W of every reparameterized layer, as it is now."""
    return [layer.weight.detach().clone() for layer in spectral_layers(model).values()]
