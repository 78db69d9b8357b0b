"""The compiled loop for tiny frames: against the operators in float64, which are tested against the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sttp_riemann as sr
from sttp_riemann.frames import tiny
from sttp_riemann.frames.householder import compact_wy
from tests.strategies import SEEDS

pytestmark = pytest.mark.skipif(tiny._library() is None, reason="installed where there is no compiler")
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)).filter(lambda s: s[1] >= s[2])


def _given(shape: tuple[int, int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Reflectors, signs and a gradient in float64, as float32 can hold them."""
    batch, _, rank = shape
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(shape, generator=generator).tril(-1)
    h.diagonal(dim1=-2, dim2=-1).fill_(1)
    signs = torch.where(torch.rand(batch, rank, generator=generator) < 0.5, -1.0, 1.0)
    return h.double(), signs.double(), torch.randn(shape, generator=generator).double()


def _frames_and_gradient(
    h: torch.Tensor, signs: torch.Tensor | None, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    h = h.detach().requires_grad_()
    frames = compact_wy(h, signs)
    frames.backward(gradient)
    return frames.detach().double(), h.grad.double()


@pytest.mark.parametrize("signed", [False, True])
@given(SHAPES, SEEDS)
def test_frames_and_gradients_are_those_of_the_operators(signed: bool, shape, seed: int) -> None:
    h, signs, gradient = _given(shape, seed)
    assert tiny.fits(h.float())
    assert not tiny.fits(h)
    narrow = _frames_and_gradient(h.float(), signs.float() if signed else None, gradient.float())
    wide = _frames_and_gradient(h, signs if signed else None, gradient)
    for found, expected in zip(narrow, wide, strict=True):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@given(SHAPES, SEEDS)
def test_frames_are_orthonormal_to_rounding(shape, seed: int) -> None:
    h, signs, _ = _given(shape, seed)
    frames = compact_wy(h.float(), signs.float()).double()
    assert (frames.mT @ frames - torch.eye(shape[2])).abs().max() < 2e-6


def test_every_layout_in_memory_is_read_right() -> None:
    h, signs, gradient = (t.float() for t in _given((6, 8, 4), 0))
    expected = _frames_and_gradient(h, signs, gradient)
    turned = [t.mT.contiguous().mT for t in (h, gradient)]
    found = _frames_and_gradient(turned[0], signs.mT.contiguous().mT, turned[1])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_signs_of_another_size_are_refused() -> None:
    with pytest.raises(RuntimeError, match="expanded size"):
        compact_wy(torch.eye(5, 3).expand(2, -1, -1), torch.ones(2, 2))


def test_a_second_derivative_is_there_too() -> None:
    h, _, gradient = (t.float() for t in _given((2, 6, 3), 0))
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = h.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(compact_wy(leaf), leaf, gradient.to(dtype), create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), leaf)[0].double())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_it_takes_tiny_batches_in_float32_on_the_cpu_alone() -> None:
    assert tiny.fits(torch.zeros(64, 8, 4))
    assert not tiny.fits(torch.zeros(8, 128, 64))
    assert not tiny.fits(torch.zeros(2, 8, 4, dtype=torch.float64))
    assert not tiny.fits(torch.zeros(2, 8, 4, device="meta"))


def test_without_a_compiler_all_goes_through_the_operators(monkeypatch) -> None:
    model = sr.reparameterize(torch.nn.Linear(12, 8), 4, frames="householder")
    weight = model.weight.detach()
    monkeypatch.setattr(tiny, "find_spec", lambda name: None)
    tiny._library.cache_clear()
    try:
        assert not tiny.fits(torch.zeros(64, 8, 4))
        torch.testing.assert_close(sr.reparameterize(torch.nn.Linear(12, 8), 4, frames="householder").weight, weight)
    finally:
        tiny._library.cache_clear()


@pytest.mark.parametrize("call", [lambda h: tiny.forward(h, None), lambda h: tiny.backward(h, None, h, h, h)])
def test_the_loop_reads_nothing_past_its_input(call) -> None:
    with pytest.raises(ValueError, match="at most 3 orthonormal columns, not 5"):
        call(torch.randn(1, 3, 5))
