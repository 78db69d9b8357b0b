"""Frames from reflectors: against the definition, and against LAPACK through torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.frames import HouseholderFrames
from sttp_riemann.frames.householder import compact_wy, reflectors_of
from sttp_riemann.trains.gauge import triangularizing_rotation
from sttp_riemann.trains.shape import Core
from tests.strategies import SEEDS, random_frame

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).filter(lambda s: s[1] >= s[2])


def _reflectors(shape: tuple[int, int, int], seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    h = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tril(-1)
    h.diagonal(dim1=-2, dim2=-1).fill_(1)
    return h.to(dtype)


def _signs(shape: tuple[int, int, int], seed: int) -> torch.Tensor:
    drawn = torch.rand(shape[0], shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.where(drawn < 0.5, -1, 1).double()


@given(SHAPES, SEEDS)
def test_compact_wy_is_the_product_of_the_reflections(shape: tuple[int, int, int], seed: int) -> None:
    batch, rows, rank = shape
    h = _reflectors(shape, seed)
    expected = torch.eye(rows, dtype=torch.float64).expand(batch, -1, -1)
    for j in range(rank):
        v = h[:, :, j : j + 1]
        expected = expected @ (torch.eye(rows, dtype=torch.float64) - 2 * v @ v.mT / (v.mT @ v))
    torch.testing.assert_close(compact_wy(h), expected[:, :, :rank])


@given(SHAPES, SEEDS)
def test_the_own_backward_is_autograds(shape: tuple[int, int, int], seed: int) -> None:
    h = _reflectors(shape, seed).requires_grad_()
    assert torch.autograd.gradcheck(compact_wy, h)
    assert torch.autograd.gradcheck(compact_wy, (h, _signs(shape, seed)))


def test_the_backward_can_be_differentiated_again() -> None:
    h = _reflectors((2, 5, 3), 0).requires_grad_()
    assert torch.autograd.gradgradcheck(compact_wy, h)


@given(SHAPES, SEEDS)
def test_every_frame_is_reached_whatever_its_column_signs(shape: tuple[int, int, int], seed: int) -> None:
    batch, rows, rank = shape
    frames = random_frame(rows, rank, seed, batch)
    reflectors, signs = reflectors_of(frames)
    torch.testing.assert_close(compact_wy(reflectors) * signs[:, None], frames)


def _held(frames: torch.Tensor, reduced: bool) -> HouseholderFrames:
    _, rows, rank = frames.shape
    return HouseholderFrames([Core(1, rows, rank, reduced)] * len(frames), list(frames))


def _materialized(held: HouseholderFrames) -> torch.Tensor:
    stacks = (torch.stack(own) for own in zip(*(held.tensors(k) for k in range(len(held))), strict=True))
    return held.materialize(held.cores[0], *stacks)


def test_signed_identities_are_reached() -> None:
    frames = torch.eye(5, 3, dtype=torch.float64) * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    held = _held(frames.unsqueeze(0), reduced=True)
    torch.testing.assert_close(_materialized(held)[0].detach(), frames)


@given(SHAPES, SEEDS)
def test_frames_of_st_keep_as_many_numbers_as_st_has_dimensions(shape: tuple[int, int, int], seed: int) -> None:
    batch, rows, rank = shape
    frames = random_frame(rows, rank, seed, batch)
    held = _held(frames, reduced=False)
    torch.testing.assert_close(_materialized(held).detach(), frames)
    assert sum(p.numel() for p in held.parameters()) == batch * (rows * rank - rank * (rank + 1) // 2)


@given(SHAPES, SEEDS)
def test_a_reduced_frame_holds_st_u_in_as_many_numbers_as_it_has_dimensions(
    shape: tuple[int, int, int], seed: int
) -> None:
    batch, rows, rank = shape
    frames = random_frame(rows, rank, seed, batch)
    frames = frames @ triangularizing_rotation(frames[:, :rank])
    held = _held(frames, reduced=True)
    torch.testing.assert_close(_materialized(held).detach(), frames)
    assert sum(p.numel() for p in held.parameters()) == batch * (rows - rank) * rank


@given(SHAPES, SEEDS)
def test_a_reduced_frame_stays_in_st_u_wherever_its_numbers_go(shape: tuple[int, int, int], seed: int) -> None:
    batch, rows, rank = shape
    held = _held(torch.eye(rows, rank, dtype=torch.float64).expand(batch, -1, -1), reduced=True)
    with torch.no_grad():
        for p in held.parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(seed)))
        frames = _materialized(held)
    assert frames[:, :rank].tril(-1).abs().max() < 1e-12
    torch.testing.assert_close(frames.mT @ frames, torch.eye(rank, dtype=torch.float64).expand(batch, -1, -1))


def test_one_frame_is_made_as_it_is_in_the_batch() -> None:
    frames = random_frame(7, 3, 0, batch=4)
    held = _held(frames, reduced=False)
    torch.testing.assert_close(held.frame(2, torch.float64).detach(), frames[2])


@pytest.mark.parametrize(("rows", "rank"), [(64, 32), (640, 32), (64, 8)])
def test_float32_frames_and_gradients_are_accurate(rows: int, rank: int) -> None:
    h = _reflectors((2, rows, rank), 0)
    g = torch.randn(2, rows, rank, dtype=torch.float64)
    wide, narrow = h.clone().requires_grad_(), h.float().requires_grad_()
    (compact_wy(wide) * g).sum().backward()
    (compact_wy(narrow) * g.float()).sum().backward()
    assert (compact_wy(narrow).double() - compact_wy(wide)).abs().max() < 5e-6
    assert (narrow.grad.double() - wide.grad).abs().max() < 1e-5 * wide.grad.abs().max()


@pytest.mark.parametrize("batch", [1, 4000])
def test_more_columns_than_rows_are_refused(batch: int) -> None:
    with pytest.raises(ValueError, match="reflectors of 3 rows make at most 3 orthonormal columns, not 5"):
        compact_wy(torch.randn(batch, 3, 5))
