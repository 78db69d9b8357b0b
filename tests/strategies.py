"""Random shapes, layers and models that the property tests draw."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

# The same examples in every run, and no clock: shared machines stall.
settings.register_profile("sttp_riemann", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("sttp_riemann")

METHODS = st.sampled_from(["sttp", "svdp"])
FRAMES = st.sampled_from(["riemannian", "householder"])
SPECTRA = st.sampled_from(["learned", "identity", "free"])
SEEDS = st.integers(0, 2**16)


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
