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
from sttp_riemann.tt import absorb
from sttp_riemann.views import spectral_layers
from tests.strategies import FRAMES as FRAME_KINDS
from tests.strategies import METHODS, SEEDS, SPECTRA, disturb, random_frame, small_network, weights_of

METHOD_AND_FRAMES = [(m, f) for m in ("sttp", "svdp") for f in ("riemannian", "householder")]


@given(METHODS, SPECTRA, SEEDS, st.sampled_from(["riemannian", "householder"]))
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
    for factors in {id(la.factors): la.factors for la in spectral_layers(model).values()}.values():
        layout, key = factors.layout, FRAMES["riemannian"].key
        cores = layout.unpack({n: b.point.data for n, b in factors.banks.items()}, key)
        for g, group in enumerate(layout.groups):
            for k in range(len(group.train.cores) - 1):
                inner = group.train.cores[k].inner
                q = random_frame(inner, inner, seed + k, batch=len(group.layers), dtype=cores[g][k].dtype)
                cores[g][k].copy_(cores[g][k] @ q)
                cores[g][k + 1].copy_(absorb(group.train, group.train.cores[k + 1], q, cores[g][k + 1]))
        values = dict(zip(layout.order, factors.spectra.S.data.split(factors.spectra.ranks), strict=True))
        for layer, s in values.items():
            generator = torch.Generator().manual_seed(seed + layer)
            order = torch.randperm(len(s), generator=generator)
            signs = [torch.randint(0, 2, (len(s),), generator=generator).to(s) * 2 - 1 for _ in range(2)]
            for at, sign in zip((layout.left_of[layer], layout.right_of[layer]), signs, strict=True):
                core = cores[at[0]][-1][at[1]]
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
        s = layer.factors.spectra.values()[layer.factors.layout.order.index(layer.index)]
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
    factors = next(iter(spectral_layers(model).values())).factors
    cores = factors.layout.unpack({n: b.point.detach() for n, b in factors.banks.items()}, FRAMES["riemannian"].key)
    checked = 0
    for group, own in zip(factors.layout.groups, cores, strict=True):
        for core, matrix in zip(group.train.cores, own, strict=True):
            if core.reduced:
                assert matrix[:, : core.inner].tril(-1).abs().max() < 1e-6
                checked += 1
    assert checked or method == "svdp"
