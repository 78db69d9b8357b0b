from __future__ import annotations

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.training.observe import summary


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 2), nn.Linear(5, 2))


def test_a_dense_network_is_told_of_like_the_others():
    model = network()
    told = summary(model)
    assert told["dof"] == told["stored"] == told["dense"] == 3 * 4 * 9 + 4 * 6 * 4 + 10
    assert told["ratio"] == 100
    assert [len(values) for values in told["singular_values"].values()] == [4, 6, 2]
    largest = torch.linalg.matrix_norm(model[2].weight.transpose(0, 1).flatten(1), 2)
    assert told["singular_values"]["2"][0] == pytest.approx(largest.item(), rel=1e-5)


def test_layers_that_stay_dense_are_left_out():
    assert summary(network(), exclude=["0"])["singular_values"].keys() == {"2", "3"}


@pytest.mark.parametrize("method", ["svdp", "sttp"])
def test_a_low_rank_network_is_told_of_in_its_own_numbers(method):
    model = sr.reparameterize(network(), rank=2, method=method)
    told, table = summary(model), sr.compression(model)
    assert (told["dof"], told["stored"], told["dense"]) == (table.dof, table.stored, table.dense)
    assert told["ratio"] == table.ratio < 100
    assert told["largest_singular_value"] == pytest.approx(1)
    assert [len(values) for values in told["singular_values"].values()] == [2, 2, 2]


def test_dense_and_low_rank_networks_name_the_same_layers():
    low_rank = summary(sr.reparameterize(network(), rank=2))["singular_values"]
    assert low_rank.keys() == summary(network())["singular_values"].keys()
