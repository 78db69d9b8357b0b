"""What optimizers keep, and what they refuse: copies, schedulers, long runs."""

from __future__ import annotations

import copy

import geoopt
import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from tests.optim.test_steps import OPTIMIZERS, _train
from tests.strategies import small_network


@pytest.mark.parametrize("make", [OPTIMIZERS[n] for n in ("adam", "amsgrad", "polar", "cores", "nesterov")])
def test_a_state_dict_round_trip_goes_on_bit_for_bit(make) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(16, 3, 8, 8), torch.randn(16, 10)
    model = sr.reparameterize(small_network(), 4)
    optimizer = make(model.parameters())
    _train(model, optimizer, 5, x, y)
    other = sr.reparameterize(small_network(), 4, seed=7)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    resumed = make(other.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert _train(model, optimizer, 5, x, y) == _train(other, resumed, 5, x, y)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_optimizer_can_be_copied_with_its_model() -> None:
    model = sr.reparameterize(nn.Linear(8, 8), 4)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    x, y = torch.randn(4, 8), torch.randn(4, 8)
    _train(model, optimizer, 3, x, y)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    _train(model, optimizer, 3, x, y)
    _train(twin, twin_optimizer, 3, x, y)
    assert torch.equal(model.weight, twin.weight)


def test_schedulers_and_closures_work() -> None:
    model = sr.reparameterize(nn.Linear(8, 8), 4)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    x = torch.randn(4, 8)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        return loss

    first = float(optimizer.step(closure).detach())
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    assert float(optimizer.step(closure).detach()) < first


@pytest.mark.parametrize("name", ["geoopt adam", "geoopt sgd"])
def test_geoopts_own_optimizers_train_a_reparameterized_model(name: str) -> None:
    torch.manual_seed(0)
    model = sr.reparameterize(small_network(), 4, init="orthogonal")
    frames = [p for la in spectral_layers(model).values() for own in (la.left, la.right) for p in own.parameters()]
    assert frames
    assert all(isinstance(p, geoopt.ManifoldParameter) for p in frames)
    x, y = torch.randn(16, 3, 8, 8), torch.randn(16, 10)
    optimizer = OPTIMIZERS[name](model.parameters())
    first = _train(model, optimizer, 1, x, y)
    assert _train(model, optimizer, 60, x, y) < 0.9 * first
    for p in frames:
        p.manifold.assert_check_point_on_manifold(p.double(), atol=1e-5)
    assert sr.orthogonality_error(model) < 1e-5


@pytest.mark.parametrize("steps", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_float32_steps_stay_orthonormal_without_an_svd(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = sr.reparameterize(nn.Linear(12, 8, bias=False), 4, init="orthogonal")
    optimizer = sr.RiemannianAdam(layer.parameters(), lr=1e-2)
    monkeypatch.setattr(torch.linalg, "svd", _forbidden)
    monkeypatch.setattr(torch, "svd", _forbidden)
    target = torch.randn(8, 12)
    largest = 0.0
    for step in range(steps):
        optimizer.zero_grad()
        (layer.weight - target * torch.randn(8, 12)).square().sum().backward()
        optimizer.step()
        if step % 100 == 99:
            largest = max(largest, sr.orthogonality_error(layer))
    assert largest < 1e-5


def _forbidden(*_: object, **__: object) -> None:
    raise AssertionError("an SVD was called")


def test_a_step_that_is_not_finite_is_named() -> None:
    layer = sr.reparameterize(nn.Linear(12, 8), 4)
    for p in layer.parameters():
        p.grad = torch.full_like(p, float("nan"))
    with pytest.raises(ValueError, match=r"number 0 of group 0, of shape \(8,\), holds NaN.*lower the learning rate"):
        sr.RiemannianAdam(layer.parameters()).step()
