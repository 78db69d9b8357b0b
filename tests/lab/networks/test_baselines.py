from __future__ import annotations

import pytest
import torch
from torch import nn

from sttp_riemann.lab.networks.baselines import (
    DynamicCompensation,
    remove_baseline,
    spectral_normalize,
    spectral_regularize,
)
from sttp_riemann.model.weights import weight_matrix

LAYERS = {
    "linear wide": lambda: nn.Linear(12, 5),
    "linear tall": lambda: nn.Linear(5, 12),
    "convolution": lambda: nn.Conv2d(3, 6, 3),
    "transposed": lambda: nn.ConvTranspose2d(6, 3, 3),
    "embedding": lambda: nn.Embedding(7, 4),
}


def with_values(values: list[float]) -> nn.Linear:
    layer = nn.Linear(6, len(values), bias=False)
    left, right = (torch.linalg.qr(torch.randn(n, len(values))).Q for n in (len(values), 6))
    layer.weight.data = left * torch.tensor(values) @ right.T
    return layer


@pytest.mark.parametrize("kind", LAYERS)
def test_regularized_weights_begin_as_the_weights_over_their_norm(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    before = weight_matrix(layer)
    spectral_regularize(nn.Sequential(layer))
    torch.testing.assert_close(weight_matrix(layer), before / torch.linalg.matrix_norm(before, 2), atol=1e-5, rtol=1e-5)


def test_values_that_fall_are_held_at_their_highest_ratio():
    torch.manual_seed(0)
    compensation = DynamicCompensation(with_values([4.0, 2.0, 1.0]))
    fallen = with_values([8.0, 1.0, 0.5]).weight.detach()
    values = torch.linalg.svdvals(compensation(fallen))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.5, 0.25]), atol=1e-5, rtol=0)


def test_values_that_rise_are_followed_and_remembered():
    torch.manual_seed(0)
    compensation = DynamicCompensation(with_values([4.0, 1.0, 1.0]))
    compensation(with_values([2.0, 1.0, 1.0]).weight.detach())
    values = torch.linalg.svdvals(compensation(with_values([2.0, 0.1, 0.1]).weight.detach()))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.5, 0.5]), atol=1e-5, rtol=0)


def test_compensation_keeps_singular_vectors():
    torch.manual_seed(0)
    compensation = DynamicCompensation(with_values([4.0, 3.0, 2.0]))
    weight = with_values([4.0, 2.0, 1.0]).weight.detach()
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    # From 4, 2, 1 to the ratios 1, 3/4, 1/2
    expected = left * torch.tensor([1.0, 0.75, 0.5]) @ right
    torch.testing.assert_close(compensation(weight), expected, atol=1e-5, rtol=0)


def test_evaluation_remembers_nothing():
    torch.manual_seed(0)
    compensation = DynamicCompensation(with_values([4.0, 1.0, 1.0])).eval()
    before = compensation.ratios.clone()
    compensation(with_values([2.0, 2.0, 2.0]).weight.detach())
    assert torch.equal(compensation.ratios, before)


def test_the_gradient_is_that_of_the_normalized_weight_where_nothing_falls():
    torch.manual_seed(0)
    layer = with_values([4.0, 2.0, 1.0]).double()
    weight, compensation = layer.weight, DynamicCompensation(layer)
    torch.testing.assert_close(
        torch.autograd.grad(compensation(weight).square().sum(), weight),
        torch.autograd.grad((weight / torch.linalg.matrix_norm(weight, 2)).square().sum(), weight),
    )


def test_a_weight_of_zeros_stays_finite():
    layer = nn.Linear(4, 3)
    layer.weight.data.zero_()
    spectral_regularize(nn.Sequential(layer))
    layer.weight.sum().backward()
    assert torch.isfinite(layer.weight).all()


@pytest.mark.parametrize("hold", [spectral_normalize, spectral_regularize])
def test_excluded_layers_are_left(hold):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    hold(model, exclude="1")
    assert isinstance(model[1].weight, nn.Parameter)
    assert not isinstance(model[0].weight, nn.Parameter)


@pytest.mark.parametrize("hold", [spectral_normalize, spectral_regularize])
def test_a_name_that_matches_nothing_is_refused(hold):
    with pytest.raises(ValueError, match="exclude names 'head'"):
        hold(nn.Sequential(nn.Linear(4, 4)), exclude="head")


def test_normalization_is_torchs_own_with_one_iteration():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 4), nn.Linear(6, 4)
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(1)
    spectral_normalize(nn.Sequential(ours))
    torch.manual_seed(1)
    nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=1)
    for _ in range(3):
        assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("hold", [spectral_normalize, spectral_regularize, lambda model: model])
def test_a_plain_copy_computes_the_same_and_leaves_the_model(hold):
    torch.manual_seed(0)
    model, inputs = hold(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))), torch.randn(3, 6)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = remove_baseline(model)
    assert all(type(layer) in (nn.Linear, nn.ReLU) for layer in plain)
    torch.testing.assert_close(plain(inputs), model.eval()(inputs))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    model.train()(inputs).sum().backward()
