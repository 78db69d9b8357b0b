from __future__ import annotations

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.networks.baselines import spectral_normalize, spectral_regularize
from sttp_riemann.lab.training.stability import diversity, layer_records, plain_copy, trained_norms
from sttp_riemann.trains.operators import circular_singular_values


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


INPUTS = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def loss(model: nn.Module) -> torch.Tensor:
    return model(INPUTS).square().mean()


def test_a_record_is_that_of_the_weights_as_matrices():
    model = network()
    records = layer_records(model, loss)
    assert list(records) == ["0", "3"]
    for name, record in records.items():
        layer = model.get_submodule(name)
        values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        assert record["top"] == pytest.approx(values.tolist())
        assert record["spectral_norm"] == record["top"][0]
        assert record["stable_rank"] == pytest.approx(float((values / values[0]).square().sum()))
        (gradient,) = torch.autograd.grad(loss(model), layer.weight)
        assert record["gradient_norm"] == pytest.approx(float(gradient.norm()))


@pytest.mark.parametrize(
    ("hold", "low_rank"),
    [
        (spectral_normalize, False),
        (spectral_regularize, False),
        (lambda model: sr.reparameterize(model, rank=3), True),
        (lambda model: model, False),
    ],
)
def test_looking_changes_nothing_and_training_goes_on(hold, low_rank):
    model = hold(network()).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = plain_copy(model, low_rank)
    layer_records(plain, loss)
    torch.testing.assert_close(plain(INPUTS), model.eval()(INPUTS), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    loss(model.train()).backward()


def test_operator_norms_are_recorded_of_convolutions_alone_and_where_asked_for():
    model = network()
    records = layer_records(model, loss, operator_norms=True)
    expected = circular_singular_values(model[0].weight.detach(), (4, 4)).max()
    assert records["0"]["operator_norm"] == pytest.approx(float(expected))
    assert "operator_norm" not in records["3"]
    assert "operator_norm" not in layer_records(model, loss)["0"]


def test_diversity_is_relative_to_real_images():
    reals = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert diversity(reals, reals) == 1
    assert diversity(reals / 2, reals) == pytest.approx(0.5)
    assert diversity(reals[:1].expand(9, -1, -1, -1), reals) == 0


def test_of_weight_normalization_no_trained_norm_is_told():
    normal = torch.nn.utils.parametrizations
    layers = normal.weight_norm(torch.nn.Linear(4, 4)), normal.spectral_norm(torch.nn.Linear(4, 4))
    assert list(trained_norms(torch.nn.Sequential(*layers))) == ["1"]
