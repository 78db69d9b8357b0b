"""Moments that follow cores to other ranks, by definition: W moves along them as it did."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from sttp_riemann.frames.carrying import Turn, carried, filled
from sttp_riemann.trains.bonds import Resized, WholeChain
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.growth import extend
from sttp_riemann.trains.shape import layer_shape
from sttp_riemann.trains.truncation import truncate
from tests.strategies import METHODS, SEEDS, layer_dimensions
from tests.trains.chains import factors, random_chain, smaller

Vectors = tuple[list[Tensor | None], list[Tensor | None]]


def _tangent(chain: WholeChain, seed: int) -> Vectors:
    """A random tangent vector at every core that is not the identity."""
    generator = torch.Generator().manual_seed(seed)
    found: Vectors = ([], [])
    for train, frames, own in zip(chain.trains, chain.frames, found, strict=True):
        for core, x in zip(train.cores, frames, strict=True):
            moved = torch.randn(x.shape, dtype=torch.float64, generator=generator)
            along = x.mT @ moved
            fixed = core.reduced and core.rows == core.inner
            own.append(None if fixed else moved - x @ (along + along.mT) / 2)
    return found


def _moved(chain: WholeChain, vectors: Vectors) -> list[Tensor]:
    """Differentials of U and of V along vectors at the cores."""
    found = []
    for train, frames, own in zip(chain.trains, chain.frames, vectors, strict=True):
        vectors_of = [torch.zeros_like(x) if m is None else m for x, m in zip(frames, own, strict=True)]
        _, tangent = torch.autograd.functional.jvp(
            lambda *cores, train=train: contract(train, [c[None] for c in cores], cores[0])[0],
            tuple(frames),
            tuple(vectors_of),
        )
        found.append(tangent)
    return found


def _carried(resized: Resized, vectors: Vectors) -> Vectors:
    found = []
    for train, frames, maps, own in zip(resized.chain.trains, resized.chain.frames, resized.maps, vectors, strict=True):
        outers = [torch.ones(1, 1, dtype=torch.float64), *maps[:-1]]
        found.append(carried([Turn(*each) for each in zip(train.cores, frames, outers, maps, strict=True)], own))
    return tuple(found)


@given(layer_dimensions(), METHODS, SEEDS)
def test_where_ranks_grow_old_singular_vectors_move_as_they_did(dims: tuple, method: str, seed: int) -> None:
    wanted, shape = smaller(*dims, seed, method)
    chain = random_chain(shape, seed)
    gradient = torch.randn(shape.d_out, shape.d_in, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    grown, vectors = extend(chain, wanted, gradient), _tangent(chain, seed)
    after = _carried(grown, vectors)
    for new, old in zip(_moved(grown.chain, after), _moved(chain, vectors), strict=True):
        torch.testing.assert_close(new[:, : shape.rank], old, rtol=0, atol=1e-10)
    for frames, own in zip(grown.chain.frames, after, strict=True):
        for x, m in zip(frames, own, strict=True):
            torch.testing.assert_close(x.mT @ m, -(m.mT @ x), rtol=0, atol=1e-11)


@given(layer_dimensions(), SEEDS)
def test_where_the_spectrum_alone_is_cut_what_is_left_moves_as_it_did(dims: tuple, seed: int) -> None:
    shape, wanted = smaller(*dims, seed, "svdp")
    chain = random_chain(shape, seed)
    cut, vectors = truncate(chain, wanted), _tangent(chain, seed)
    kept = torch.isin(chain.values, cut.chain.values)
    for new, old in zip(_moved(cut.chain, _carried(cut, vectors)), _moved(chain, vectors), strict=True):
        torch.testing.assert_close(new, old[:, kept], rtol=0, atol=1e-12)


@given(layer_dimensions(), SEEDS)
def test_where_inner_bonds_are_cut_cores_move_as_their_projection_did(dims: tuple, seed: int) -> None:
    shape, wanted = smaller(*dims, seed, "sttp")
    chain = random_chain(shape, seed)
    cut, vectors = truncate(chain, wanted), _tangent(chain, seed)
    after = _carried(cut, vectors)
    for side in (0, 1):
        train, new = chain.trains[side], cut.chain.trains[side]
        ends = [train.cores[0].outer, *(core.inner for core in train.cores)]
        for k, (core, x) in enumerate(zip(new.cores, cut.chain.frames[side], strict=True)):
            m = vectors[side][k]
            if m is None:
                assert float(after[side][k].abs().max()) < 1e-12
                continue
            # Overlaps of what the cores up to either bond of core k span, from dense matrices
            spans = [
                [_span(t, own[side], count) for t, own in ((train, chain.frames), (new, cut.chain.frames))]
                for count in (k, k + 1)
            ]
            outer, inner = (now.mT @ before for before, now in spans)
            assert outer.shape[1] == ends[k]
            size = (-1, core.mode, m.shape[1]) if core.outer_first else (core.mode, -1, m.shape[1])
            equation = "oni,Oo,Ii->OnI" if core.outer_first else "noi,Oo,Ii->nOI"
            moved = torch.einsum(equation, m.reshape(size), outer, inner).reshape(x.shape)
            along = x.mT @ moved
            torch.testing.assert_close(after[side][k], moved - x @ (along + along.mT) / 2, rtol=0, atol=1e-10)


def _span(train, frames: list[Tensor], count: int) -> Tensor:  # type: ignore[no-untyped-def]
    """What the first cores of a train contract to; one number for none."""
    if not count:
        return torch.ones(1, 1, dtype=torch.float64)
    part = type(train)(train.side, 0, 0, train.cores[:count])
    return contract(part, [f[None] for f in frames[:count]], frames[0])[0]


def test_entries_that_nothing_maps_to_get_the_largest_second_moment() -> None:
    move = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert filled(lambda x: move @ x, torch.tensor([1.0, 4.0])).tolist() == [1.0, 4.0, 4.0]


@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_frames_at_equal_ranks_and_their_moments_stay(method: str) -> None:
    shape = layer_shape(24, (36,), 6, method)
    chain = random_chain(shape, 0)
    same, vectors = truncate(chain, shape), _tangent(chain, 0)
    assert all(torch.equal(a, b) for a, b in zip(factors(same.chain), factors(chain), strict=True))
    for new, old in zip(_carried(same, vectors), vectors, strict=True):
        for a, b in zip(new, old, strict=True):
            assert b is None or torch.allclose(a, b, rtol=0, atol=1e-12)
