"""Random chains, and what they contract to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sttp_riemann.trains.bonds import WholeChain, whole_chain
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.shape import LayerShape, layer_shape
from sttp_riemann.trains.start import draw


def random_chain(shape: LayerShape, seed: int) -> WholeChain:
    """Uniform frames, and singular values of both signs that fall by a factor of about two."""
    generator = torch.Generator().manual_seed(seed)
    cores = draw(shape, "orthogonal", generator)
    values = torch.randn(shape.rank, dtype=torch.float64, generator=generator)
    return whole_chain(shape, cores.left, values * 0.5 ** torch.arange(shape.rank), cores.right)


def factors(chain: WholeChain) -> list[Tensor]:
    """U and V."""
    pairs = zip(chain.trains, chain.frames, strict=True)
    return [contract(train, [f[None] for f in frames], chain.values)[0] for train, frames in pairs]


def matrix(chain: WholeChain) -> Tensor:
    """W."""
    u, v = factors(chain)
    return (u * chain.values) @ v.mT


def smaller(d_out: int, d_in: tuple[int, ...], rank: int, seed: int, method: str) -> tuple[LayerShape, LayerShape]:
    """Shapes at a rank and at one that is not larger."""
    return tuple(layer_shape(d_out, d_in, r, method) for r in (rank, 1 + seed % rank))


def spectra(shape: LayerShape, w: Tensor) -> list[Tensor]:
    """Singular values of W unfolded at every bond, by definition."""
    cuts = range(1, len(shape.modes))
    return [torch.linalg.svdvals(w.reshape(math.prod(shape.modes[:k]), -1)) for k in cuts]


def orthonormal(chain: WholeChain) -> bool:
    """Whether all frames have orthonormal columns and the shapes of their cores."""
    pairs = [pair for t, own in zip(chain.trains, chain.frames, strict=True) for pair in zip(t.cores, own, strict=True)]
    eye = [torch.eye(core.inner, dtype=torch.float64) for core, _ in pairs]
    return all(
        frame.shape == (core.rows, core.inner) and torch.allclose(frame.mT @ frame, e, rtol=0, atol=1e-12)
        for (core, frame), e in zip(pairs, eye, strict=True)
    )
