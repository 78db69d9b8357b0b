from __future__ import annotations

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.training.average import Average


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
    average = Average(network, decay=0.75)
    expected = None
    for value in (1.0, 2.0, 4.0):
        network[0].weight.data.fill_(value)
        network[1].running_mean.fill_(value)
        average.update(network)
        expected = value if expected is None else 0.75 * expected + 0.25 * value
    assert average.model[0].weight.unique().tolist() == [expected]
    assert average.model[1].running_mean.unique().tolist() == [expected]


def test_whole_numbers_are_taken_over_and_not_averaged(network):
    average = Average(network, decay=0.9)
    for count in (3, 5, 7):
        network[1].num_batches_tracked.fill_(count)
        average.update(network)
    assert average.model[1].num_batches_tracked == 7


def test_the_network_itself_is_left_alone(network):
    before = network[0].weight.clone()
    average = Average(network, decay=0.5)
    average.model[0].weight.fill_(3)
    assert torch.equal(network[0].weight, before)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_averaged_frames_are_frames(frames, network):
    sr.reparameterize(network, rank=6, frames=frames)
    average = Average(network, decay=0.9)
    wander(network, 30, average)
    assert sr.orthogonality_error(average.model) < 1e-5
    assert sr.singular_values(average.model)["0"][0] == pytest.approx(1, abs=1e-5)


def test_every_parameter_has_its_twin(network):
    twins = Average(network, 0.9).twins(network)
    assert all(torch.equal(own, twin) and own is not twin for own, (twin,) in twins.items())
    assert len(twins) == 4
