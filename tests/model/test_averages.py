"""Averages of networks: exact, and on the manifold in every gauge."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.model.averages import Averaged


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 24), nn.BatchNorm1d(24))


def wander(model, steps, average):
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 24)).square().sum().backward()
        optimizer.step()
        average.update(model)


def test_it_is_the_exponential_average_of_weights_and_statistics(network):
    average = Averaged(network, decay=0.75)
    expected = None
    for value in (1.0, 2.0, 4.0):
        network[0].weight.data.fill_(value)
        network[1].running_mean.fill_(value)
        average.update(network)
        expected = value if expected is None else 0.75 * expected + 0.25 * value
    assert average.module[0].weight.unique().tolist() == [expected]
    assert average.module[1].running_mean.unique().tolist() == [expected]


def test_whole_numbers_are_taken_over_and_not_averaged(network):
    average = Averaged(network, decay=0.9)
    for count in (3, 5, 7):
        network[1].num_batches_tracked.fill_(count)
        average.update(network)
    assert average.module[1].num_batches_tracked == 7


def test_the_network_itself_is_left_alone(network):
    before = network[0].weight.clone()
    average = Averaged(network, decay=0.5)
    average.module[0].weight.fill_(3)
    assert torch.equal(network[0].weight, before)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_averaged_frames_are_frames(frames, network):
    sr.reparameterize(network, rank=6, frames=frames)
    average = Averaged(network, decay=0.9)
    wander(network, 30, average)
    assert sr.orthogonality_error(average.module) < 1e-5
    assert sr.singular_values(average.module)["0"][0] == pytest.approx(1, abs=1e-5)


def test_the_average_of_a_network_whose_gauge_is_fixed_is_that_of_one_whose_gauge_is_not() -> None:
    weights = []
    for every in (0, 7):
        torch.manual_seed(0)
        model = sr.reparameterize(nn.Linear(24, 36), 6, init="orthogonal").double()
        optimizer, average = sr.RiemannianAdam(model.parameters(), lr=1e-2), sr.averaged(model, 0.9)
        for step in range(1, 30):
            optimizer.zero_grad()
            (model(torch.randn(8, 24).double()) - 1).square().sum().backward()
            optimizer.step()
            average.update(model)
            if every and step % every == 0:
                sr.gauge_fix(model, optimizer, average)
        weights.append(average.module.weight.detach())
    torch.testing.assert_close(*weights, rtol=0, atol=1e-9)


def test_an_average_is_called_as_the_network_is(network) -> None:
    sr.reparameterize(network, rank=6)
    average, x = sr.averaged(network, 0.5), torch.randn(4, 24)
    torch.testing.assert_close(average.eval()(x), network.eval()(x))


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan"), "0.9", True])
def test_a_decay_out_of_range_is_refused(network, decay) -> None:
    with pytest.raises(ValueError, match="decay must be a number from 0 to below 1"):
        sr.averaged(sr.reparameterize(network, rank=6), decay)


def test_the_average_of_another_model_is_refused(network) -> None:
    model, other = sr.reparameterize(network, rank=6), sr.reparameterize(nn.Linear(8, 8), rank=6)
    with pytest.raises(ValueError, match="average is of another model"):
        sr.gauge_fix(model, None, sr.averaged(other))


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_network_that_holds_nan_is_refused_and_the_average_stays(frames) -> None:
    model = sr.reparameterize(nn.Linear(8, 6), rank=2, frames=frames)
    average = sr.averaged(model, 0.5)
    before = copy.deepcopy(average.state_dict())
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if name.startswith("left")).fill_(torch.nan)
    with pytest.raises(ValueError, match="of the model holds NaN"):
        average.update(model)
    assert all(torch.equal(value, before[name]) for name, value in average.state_dict().items())
