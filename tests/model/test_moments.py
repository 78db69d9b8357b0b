"""Second moments of layers' inputs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.layers import LAYERS
from tests.strategies import LAYER_KINDS


@pytest.mark.parametrize("kind", [kind for kind in LAYER_KINDS if "transposed" not in kind and "embedding" not in kind])
def test_the_matrix_times_the_columns_is_the_output(kind: str) -> None:
    make, size = LAYER_KINDS[kind]
    layer, x = make(), torch.randn(size)
    columns = LAYERS[type(layer)].columns(layer, x)
    matrix = LAYERS[type(layer)].to_matrix(layer.weight)
    output = layer(x) if layer.bias is None else layer(x) - _bias(layer)
    if isinstance(layer, nn.Linear):
        torch.testing.assert_close(columns @ matrix.mT, output.flatten(0, -2), rtol=1e-5, atol=1e-5)
        return
    groups = layer.groups
    batched = output if output.dim() == len(layer.kernel_size) + 2 else output.unsqueeze(0)
    of_groups = columns.view(batched.shape[0], groups, -1, columns.shape[1])
    rows = matrix.view(groups, -1, matrix.shape[1])
    product = torch.einsum("ngpi,goi->ngop", of_groups, rows)
    torch.testing.assert_close(product.reshape(batched.shape), batched, rtol=1e-5, atol=1e-5)


def _bias(layer: nn.Module) -> torch.Tensor:
    return layer.bias.view(-1, *(1,) * len(getattr(layer, "kernel_size", ())))


def test_a_moment_is_the_mean_over_all_inputs_however_batched() -> None:
    model, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval(), torch.randn(30, 5)
    found = sr.input_moments(model, x.split(7))
    inner = model[:2](x).double()
    torch.testing.assert_close(found["0"], x.double().mT @ x.double() / 30, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["2"], inner.mT @ inner / 30, rtol=1e-5, atol=1e-6)


def test_the_model_is_as_before() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sr.input_moments(model, [torch.randn(2, 3, 8, 8)])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_whose_outputs_are_no_product_with_columns_have_none() -> None:
    embedding = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3))
    assert set(sr.input_moments(embedding, [torch.arange(5)])) == {"1"}
    transposed = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    assert set(sr.input_moments(transposed, [torch.randn(2, 3, 5, 5)])) == {"1"}


def test_without_batches_there_is_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="batches is empty"):
        sr.input_moments(nn.Linear(3, 2), [])


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("method", ["svdp", "sttp"])
def test_outputs_are_kept_better_than_by_the_nearest_weight(method: str, frames: str) -> None:
    # Inputs as images have them: few directions hold most of the energy
    x = torch.randn(500, 64) * torch.logspace(0, -6, 64) @ torch.linalg.qr(torch.randn(64, 64))[0]
    dense = nn.Linear(64, 32, bias=False)
    errors = {}
    for weighed in (False, True):
        layer = nn.Linear(64, 32, bias=False)
        layer.load_state_dict(dense.state_dict())
        moments = {"": sr.input_moments(layer, [x])[""]} if weighed else None
        sr.reparameterize(layer, 6, method, frames, init="dense", moments=moments)
        errors[weighed] = float((layer(x) - dense(x)).detach().norm() / dense(x).detach().norm())
        if weighed:
            assert layer.dense_error == pytest.approx(errors[True], rel=0.1)
    assert errors[True] < 0.6 * errors[False]


def test_a_budget_goes_where_outputs_are_kept() -> None:
    model = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False))
    # The first layer only ever sees two directions, so rank 2 keeps all of its outputs
    basis = torch.randn(2, 32)
    moments = sr.input_moments(model, [torch.randn(100, 2) @ basis])
    moments["1"] = torch.eye(32)
    sr.reparameterize(model, budget=0.5, method="svdp", init="dense", moments=moments)
    assert model[0].rank < model[1].rank
    assert math.isclose(model[0].dense_error, 0, abs_tol=0.05)
