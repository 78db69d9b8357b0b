"""Moves that leave W as it is: between the paths, along the gauge, to the canonical form."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import FRAMES
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.trains.shape import absorb
from tests.strategies import FRAMES as FRAME_KINDS
from tests.strategies import METHODS, SEEDS, SPECTRA, disturb, random_frame, small_network, weights_of

METHOD_AND_FRAMES = [(m, f) for m in ("sttp", "svdp") for f in FRAMES]


@given(METHODS, SPECTRA, SEEDS, st.sampled_from([*FRAMES]))
def test_conversion_there_and_back_keeps_w(method: str, spectrum: str, seed: int, start: str) -> None:
    model = disturb(sr.reparameterize(small_network(), 4, method, start, spectrum, "orthogonal", seed=seed), seed)
    before = weights_of(model)
    other = "householder" if start == "riemannian" else "riemannian"
    for kind in (other, start):
        sr.convert_frames(model, kind)
        for a, b in zip(weights_of(model), before, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", FRAMES)
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_conversion_after_training_keeps_w(method: str, start: str) -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(24, 36), nn.ReLU(), nn.Linear(36, 12)), 6, method, start)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=2e-2)
    x, y = torch.randn(64, 24), torch.randn(64, 12)
    for _ in range(50):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    before = weights_of(model)
    for kind in ("householder" if start == "riemannian" else "riemannian", start):
        sr.convert_frames(model, kind)
        for a, b in zip(weights_of(model), before, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spectrum", ["identity", "learned"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_a_householder_checkpoint_stores_exactly_dof_trainable_numbers(method: str, spectrum: str) -> None:
    dense = small_network()
    plain = sum(p.numel() for p in dense.parameters())
    model = sr.reparameterize(dense, 5, method, "householder", spectrum)
    table = sr.compression(model)
    trainable = {name for name, _ in model.named_parameters()}
    stored = sum(t.numel() for name, t in model.state_dict().items() if name in trainable)
    assert stored == table.dof + plain - table.dense
    assert table.stored == table.dof


def _turn_gauge(model: nn.Module, seed: int) -> None:
    """Random gauge moves on all inner bonds, and random orders and signs of the singular values."""
    for number, layer in enumerate(spectral_layers(model).values()):
        left, right = ([frames[k].data for k in range(len(frames))] for frames in (layer.left, layer.right))
        for train, cores in ((layer.shape.left, left), (layer.shape.right, right)):
            for k in range(len(cores) - 1):
                inner = train.cores[k].inner
                q = random_frame(inner, inner, seed + k, dtype=cores[k].dtype)[0]
                cores[k].copy_(cores[k] @ q)
                cores[k + 1].copy_(absorb(q, cores[k + 1], train.cores[k + 1].outer_first))
        s, generator = layer.spectrum.data, torch.Generator().manual_seed(seed + number)
        order = torch.randperm(len(s), generator=generator)
        signs = [torch.randint(0, 2, (len(s),), generator=generator).to(s) * 2 - 1 for _ in range(2)]
        for core, sign in zip((left[-1], right[-1]), signs, strict=True):
            core.copy_(core[:, order] * sign)
        s.copy_(s[order] * signs[0] * signs[1] * 1.7)


@given(METHODS, SEEDS)
def test_equivalent_networks_become_equal_arrays(method: str, seed: int) -> None:
    model = disturb(sr.reparameterize(small_network().double(), 5, method, init="orthogonal", seed=seed), seed)
    turned = copy.deepcopy(model)
    _turn_gauge(turned, seed)
    for a, b in zip(weights_of(turned), weights_of(model), strict=True):
        torch.testing.assert_close(a, b)
    states = [sr.canonicalize(m).state_dict() for m in (model, turned)]
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-6, atol=1e-7)


@given(METHODS, FRAME_KINDS, SPECTRA, SEEDS)
def test_canonical_form_keeps_w_orders_s_and_is_idempotent(method: str, frames: str, spectrum: str, seed: int) -> None:
    model = disturb(sr.reparameterize(small_network().double(), 5, method, frames, spectrum, "orthogonal"), seed)
    before = weights_of(model)
    state = copy.deepcopy(sr.canonicalize(model).state_dict())
    for a, b in zip(weights_of(model), before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
    for layer in spectral_layers(model).values():
        s = layer.core_frames()[1]
        assert (s[:-1] >= s[1:]).all()
        assert (s >= 0).all()
    for name, tensor in sr.canonicalize(model).state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=1e-8)


def test_canonical_forms_of_both_paths_are_the_same_network() -> None:
    model = disturb(sr.reparameterize(small_network().double(), 5, init="orthogonal"))
    converted = sr.convert_frames(copy.deepcopy(model), "householder")
    back = sr.convert_frames(sr.canonicalize(converted), "riemannian")
    expected = sr.canonicalize(model).state_dict()
    for name, tensor in sr.canonicalize(back).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_gauge_fixing_in_float32_lands_in_st_u_and_moves_w_by_rounding(method: str, spectrum: str) -> None:
    model = disturb(sr.reparameterize(small_network(), 5, method, "riemannian", spectrum, "orthogonal"))
    before = weights_of(model)
    sr.gauge_fix(model)
    for a, b in zip(weights_of(model), before, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-5
    checked = 0
    for layer in spectral_layers(model).values():
        for train, frames in ((layer.shape.left, layer.left), (layer.shape.right, layer.right)):
            for k, core in enumerate(train.cores):
                if core.reduced:
                    assert frames[k].detach()[: core.inner].tril(-1).abs().max() < 1e-6
                    checked += 1
    assert bool(checked) == (method == "sttp" or spectrum == "identity")


def _trained(fix: bool, several: bool) -> nn.Module:
    """Gradients of two halves of a batch add up, and the gauge is fixed between them."""
    torch.manual_seed(0)
    model = sr.reparameterize(small_network().double(), 5, init="orthogonal")
    parts = [list(part.parameters()) for part in model if any(True for _ in part.parameters())]
    groups = parts if several else [[p for part in parts for p in part]]
    optimizers = [sr.RiemannianAdam(own, lr=1e-2) for own in groups]
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    for step in range(5):
        for half in x.chunk(2):
            (model(half) - 1).square().mean().backward()
            if fix and step in (2, 3):
                sr.gauge_fix(model, optimizers if several else optimizers[0])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return model


@pytest.mark.parametrize("several", [False, True])
def test_gradients_that_wait_and_moments_of_several_optimizers_move_along(several: bool) -> None:
    plain, fixed = _trained(False, several), _trained(True, several)
    for a, b in zip(weights_of(plain), weights_of(fixed), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


class Wrapper:
    """As Lightning and accelerate wrap one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def test_a_wrapped_optimizer_is_taken_out() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(24, 36)), 6)
    optimizer = sr.RiemannianSGD(model.parameters(), lr=1e-2, momentum=0.9)
    sr.register_gauge_fix(model, Wrapper(optimizer), every=1)
    model(torch.ones(24)).sum().backward()
    optimizer.step()
    _turn_gauge(model, 1)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    sr.gauge_fix(model, Wrapper(optimizer))
    after = optimizer.state_dict()["state"]
    assert any(not torch.equal(after[k]["momentum_buffer"], own["momentum_buffer"]) for k, own in before.items())
    sr.shrink_ranks(model, Wrapper(optimizer), rank=3)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("wrong", ["adam", [3], [None]])
def test_what_is_no_optimizer_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"optimizer must be a torch\.optim\.Optimizer, several of them, or None, got"):
        sr.gauge_fix(sr.reparameterize(nn.Linear(24, 36), 6), wrong)
