"""Spectra and their penalties."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.trains.spectrum import PENALTIES, d_optimal, divergence, half_normal, spectrum_values, trace_values

VALUES = [[2.0, -4.0, 1.0], [3.0, 3.0, -3.0]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("learned", [[0.5, -1.0, 0.25], [2.0, 2.0, -2.0]]), ("free", VALUES)],
)
def test_values_are_the_definition(kind: str, expected: list[list[float]]) -> None:
    values, bounds = (torch.tensor(x, dtype=torch.float64) for x in (VALUES, [[1.0], [2.0]]))
    torch.testing.assert_close(spectrum_values(kind, values, bounds), torch.tensor(expected, dtype=torch.float64))


def test_one_bound_serves_all() -> None:
    values = torch.tensor(VALUES)
    torch.testing.assert_close(spectrum_values("learned", values, 2.0), 2 * spectrum_values("learned", values, 1.0))


def test_an_identity_spectrum_is_the_bound_and_has_no_parameter() -> None:
    layer = sr.reparameterize(nn.Linear(6, 4), 3, spectrum="identity", spectral_bound=2.0)
    assert layer.spectrum is None
    torch.testing.assert_close(layer.core_frames()[1], torch.full((3,), 2.0))


def test_d_optimal_is_the_mean_of_minus_log() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(6, 4), nn.Linear(8, 12)), 4, "svdp")
    with torch.no_grad():
        model[0].spectrum.copy_(torch.tensor([1.0, 0.5, 0.25, 0.125]))
        model[1].spectrum.copy_(torch.tensor([2.0, 1.0, 0.5, 0.5]))
    expected = (math.log(2) * (0 + 1 + 2 + 3) + math.log(2) * (0 + 1 + 2 + 2)) / 8
    assert sr.spectral_penalty(model).item() == pytest.approx(expected, rel=1e-6)


def test_d_optimal_spreads_collapsed_values_and_is_least_for_equal_ones() -> None:
    s = torch.tensor([1.0, 0.1], requires_grad=True)
    d_optimal([s], torch.ones(1)).backward()
    assert s.grad[1] < 0
    assert d_optimal([torch.ones(4)], torch.ones(1)).item() == 0


def test_d_optimal_of_a_vanishing_value_is_finite() -> None:
    s = torch.tensor([1.0, 0.0], requires_grad=True)
    loss = d_optimal([s], torch.ones(1))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(s.grad).all()


def test_half_normal_prefers_the_reference_density_to_a_collapsed_and_to_a_flat_spectrum() -> None:
    """Quantiles of the half-normal with mode 1 are the best; a collapsed spectrum is the worst."""
    n, width = 64, 0.1
    quantiles = 1 - torch.special.erfinv(torch.linspace(0.01, 0.9, n, dtype=torch.float64)) * math.sqrt(2 * width)
    bounds = torch.ones(1, dtype=torch.float64)
    best = half_normal([quantiles], bounds)
    assert best < half_normal([torch.linspace(1, 0.02, n, dtype=torch.float64)], bounds)
    assert best < half_normal([torch.linspace(1, 0.02, n, dtype=torch.float64) ** 8], bounds)


def test_half_normal_is_relative_to_the_bound_and_spreads_values_that_start_equal() -> None:
    s = torch.tensor([1.0, 0.7, 0.2])
    torch.testing.assert_close(half_normal([s], torch.ones(1)), half_normal([3 * s], torch.full((1,), 3.0)))
    ones = torch.ones(4, requires_grad=True)
    half_normal([ones], torch.ones(1)).backward()
    assert torch.isfinite(ones.grad).all()
    assert 0 < ones.grad.abs().max() <= 1000


def test_divergence_is_the_released_one() -> None:
    """The figure that the released code gives for two layers, and its definition on another."""
    values = [torch.tensor([1.0, 0.9, 0.7, 0.4]), torch.tensor([1.0, 0.5])]
    assert divergence(values, torch.ones(2)).item() == pytest.approx(21.37, abs=5e-3)
    s = [1.0, 0.8, 0.75]
    terms = [(1 - s[k + 1]) ** 2 / 0.01 - math.log(s[k] - s[k + 1]) for k in range(2)]
    shuffled = [3.0 * torch.tensor([-0.8, 1.0, 0.75], dtype=torch.float64)]
    assert divergence(shuffled, torch.ones(1)).item() == pytest.approx(sum(terms) / 2, rel=1e-12)


def test_divergence_has_no_gradient_at_equal_values_where_training_starts() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 8)), 4)
    sr.spectral_penalty(model, "divergence").backward()
    assert all(not layer.spectrum.grad.any() for layer in model)
    assert sr.spectral_penalty(model, "divergence").item() == pytest.approx(-math.log(1e-7), rel=1e-5)


def test_half_normal_has_a_gentle_gradient_where_values_are_nearly_equal() -> None:
    """What it is better at than the released divergence, whose gradient grows as gaps close."""
    s = (1 - 1e-6 * torch.arange(32, dtype=torch.float64).sqrt()).requires_grad_()
    steep, gentle = (
        torch.autograd.grad(penalty([s], torch.ones(1, dtype=torch.float64)), s)[0].abs().max()
        for penalty in (divergence, half_normal)
    )
    assert gentle < 1000
    assert steep > 1e5


def test_divergence_leaves_out_layers_without_a_gap_and_refuses_a_model_of_them() -> None:
    pair, single = torch.tensor([1.0, 0.5]), torch.tensor([1.0])
    assert divergence([pair, single], torch.ones(2)) == divergence([pair], torch.ones(1))
    with pytest.raises(ValueError, match="penalty 'divergence' is of gaps") as error:
        sr.spectral_penalty(sr.reparameterize(nn.Linear(8, 8), 1), "divergence")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("bound", [1.0, 1e-3, 50.0])
def test_d_optimal_ends_where_the_released_one_does_relative_to_the_bound(bound: float) -> None:
    s = bound * torch.tensor([1.0, 1e-6, 1e-9, 0.0], dtype=torch.float64)
    s.requires_grad_()
    penalty = d_optimal([s], torch.tensor([bound], dtype=torch.float64))
    penalty.backward()
    expected = -(4 * math.log(bound) + math.log(1e-6) + 2 * math.log(1e-7)) / 4
    assert penalty.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(s.grad * bound, torch.tensor([-0.25, -0.25e6, 0, 0], dtype=torch.float64))


@pytest.mark.parametrize("kind", PENALTIES)
def test_training_on_the_penalty_alone_lowers_it(kind: str) -> None:
    torch.manual_seed(0)
    model = sr.reparameterize(nn.Linear(32, 32), 16, init="dense")
    optimizer = sr.RiemannianAdam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = sr.spectral_penalty(model, kind)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05


def test_values_that_rounding_tells_apart_share_the_gradient_of_their_maximum() -> None:
    """Otherwise machines, and numbers of processes, part as soon as values that start equal have taken a step."""
    weights = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    gradients = []
    for nudge in (0.0, 1e-9, -1e-9):
        stored = torch.tensor([[2.0 + nudge, 2.0, 1.0]], dtype=torch.float64, requires_grad=True)
        values = spectrum_values("learned", stored, 1.0)
        assert values.max() == 1
        (gradient,) = torch.autograd.grad((weights * values).sum(), stored)
        gradients.append(gradient[0])
    # d (w . S / m): w / m, less (w . S / m^2) shared by the two largest
    share = (3 * 2 + 1 * 2 + 2 * 1) / 4 / 2
    expected = weights / 2 - torch.tensor([share, share, 0.0], dtype=torch.float64)
    for gradient in gradients:
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["learned", "free"])
@pytest.mark.parametrize(
    "bounds", [1.0, 2.5, torch.tensor([[1.0], [3.0]], dtype=torch.float64)], ids=["1", "2.5", "own"]
)
def test_the_written_way_back_is_autograds_and_the_values_are_the_same_bits(kind: str, bounds) -> None:
    stored = torch.tensor([[2.0, -4.0, 1.0], [3.0, 3.0, -3.0]], dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 3, dtype=torch.float64)
    expected = spectrum_values(kind, stored, bounds)
    (gradient,) = torch.autograd.grad(expected, stored, grad)
    values, pull = trace_values(kind, stored.detach(), bounds)
    assert torch.equal(values, expected.detach())
    torch.testing.assert_close(pull(grad)[0], gradient)


def test_a_spectrum_of_zeros_is_zero_and_spoils_nothing() -> None:
    stored = torch.zeros(1, 3, requires_grad=True)
    values = spectrum_values("learned", stored, 1.0)
    assert values.tolist() == [[0.0, 0.0, 0.0]]
    traced, pull = trace_values("learned", stored.detach(), 1.0)
    assert traced.tolist() == [[0.0, 0.0, 0.0]]
    assert torch.isfinite(pull(torch.zeros(1, 3))[0]).all()
    (gradient,) = torch.autograd.grad(values.sum(), stored)
    torch.testing.assert_close(gradient, torch.full((1, 3), 1e8))
    torch.testing.assert_close(pull(torch.ones(1, 3))[0], gradient)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("penalty", [None, *PENALTIES])
def test_a_layer_whose_learned_spectrum_is_set_to_zeros_trains_on(frames: str, penalty: str | None) -> None:
    """Its weight is zero, and a step brings back a largest singular value at the bound, as in the released code."""
    layer = sr.reparameterize(nn.Linear(8, 8), 4, frames=frames)
    with torch.no_grad():
        layer.spectrum.zero_()
    assert not layer.weight.detach().any()
    assert not sr.singular_values(layer)[""].any()
    optimizer = sr.RiemannianAdam(layer.parameters(), lr=1e-2)
    loss = (layer(torch.randn(16, 8)) - 1).square().mean()
    (loss if penalty is None else loss + sr.spectral_penalty(layer, penalty)).backward()
    optimizer.step()
    assert sr.singular_values(layer)[""][0] == pytest.approx(1, abs=1e-6)
