"""A weight is written as a whole, and no write vanishes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from tests.workflows.common import (
    PATHS,
    VARIANTS,
    Net,
    assert_told_is_true,
    inputs,
    meant,
    moved,
    optimizer_for,
    spectral,
    train,
    trained,
    weights_of,
)

LAYERS = {
    "linear": (lambda: nn.Linear(12, 16), torch.randn(3, 12)),
    "convolution": (lambda: nn.Conv2d(4, 16, 3), torch.randn(3, 4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 16, 3), torch.randn(3, 4, 5, 5)),
    "grouped": (lambda: nn.Conv2d(8, 16, 3, groups=2), torch.randn(3, 8, 5, 5)),
    "embedding": (lambda: nn.Embedding(20, 12), torch.arange(20)),
}


@pytest.mark.parametrize("kind", LAYERS)
@VARIANTS
def test_a_weight_of_full_rank_is_taken_as_it_is(kind: str, method: str, frames: str) -> None:
    make, x = LAYERS[kind]
    dense = make()
    layer = sr.reparameterize(make(), rank=1.0, method=method, frames=frames, spectrum="free", init="orthogonal")
    if layer._parameters.get("bias") is not None:
        layer.bias.data.copy_(dense.bias.detach())
    sr.set_weight(layer, dense.weight.detach())
    torch.testing.assert_close(layer.weight, dense.weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x), dense(x), rtol=1e-4, atol=1e-5)


@PATHS
def test_at_a_lower_rank_it_is_the_nearest_one(frames: str) -> None:
    layer = sr.reparameterize(
        nn.Linear(12, 16), rank=4, method="svdp", frames=frames, spectrum="free", init="orthogonal"
    )
    wanted = torch.randn(16, 12)
    u, s, v = torch.linalg.svd(wanted, full_matrices=False)
    layer.weight = wanted
    torch.testing.assert_close(layer.weight.detach(), (u[:, :4] * s[:4]) @ v[:4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sr.singular_values(layer)[""], s[:4], rtol=1e-4, atol=1e-5)


@VARIANTS
def test_assigning_is_setting_and_what_the_layer_has_is_taken_exactly(method: str, frames: str) -> None:
    source = spectral(Net(), frames, method=method, spectrum="free", seed=1)
    by_call, by_assignment = (spectral(Net(), frames, method=method, spectrum="free") for _ in range(2))
    for name in ("backbone.0", "backbone.2", "head"):
        wanted = source.get_submodule(name).weight.detach().clone()
        sr.set_weight(by_call.get_submodule(name), wanted)
        by_assignment.get_submodule(name).weight = nn.Parameter(wanted)
        torch.testing.assert_close(by_call.get_submodule(name).weight.detach(), wanted, rtol=1e-4, atol=1e-5)
    assert moved(weights_of(by_call), weights_of(by_assignment)) == set()
    torch.testing.assert_close(by_call(inputs()).detach(), meant(by_call))


@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@PATHS
def test_whatever_a_spectrum_makes_of_a_matrix_is_told_truly(frames: str, spectrum: str) -> None:
    """A bounded spectrum cannot hold every matrix: it may refuse or scale it, but what it tells is what it has."""
    layer = spectral(nn.Linear(12, 16), frames, spectrum=spectrum)
    with contextlib.suppress(ValueError):
        sr.set_weight(layer, 7 * torch.randn(16, 12))
    assert_told_is_true(layer)


@PATHS
def test_a_written_weight_learns_on(frames: str) -> None:
    model = spectral(Net(), frames, spectrum="free")
    optimizer = optimizer_for(frames, model.parameters())
    train(model, optimizer, 3)
    with torch.no_grad():
        sr.set_weight(model.head, torch.randn(10, 48))
    before = weights_of(model)
    losses = train(model, optimizer, 20)
    assert losses[-1] < losses[0]
    assert moved(before, weights_of(model)) == {"backbone.0", "backbone.2", "head"}


@pytest.mark.parametrize("wrong", [torch.zeros(12, 16), torch.zeros(16), torch.full((16, 12), float("nan"))])
@PATHS
def test_a_weight_that_does_not_fit_is_refused_and_nothing_changes(frames: str, wrong: Tensor) -> None:
    layer = spectral(nn.Linear(12, 16), frames)
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError):
        sr.set_weight(layer, wrong)
    assert torch.equal(layer.weight, before)


def test_only_a_spectral_layer_is_written() -> None:
    with pytest.raises((TypeError, ValueError), match="Linear"):
        sr.set_weight(nn.Linear(3, 4), torch.zeros(4, 3))


def add_to_data(layer: nn.Module) -> None:
    layer.weight.data += 1.0


def new_data(layer: nn.Module) -> None:
    layer.weight.data = torch.zeros_like(layer.weight)


def fill_a_row(layer: nn.Module) -> None:
    layer.weight.data[3] = 0.0


def copy_under_no_grad(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.zeros_like(layer.weight))


def fill_a_detached_view(layer: nn.Module) -> None:
    layer.weight.detach()[:2].zero_()


def normal(layer: nn.Module) -> None:
    nn.init.normal_(layer.weight, 0.0, 1.0)


def dcgan(layer: nn.Module) -> None:
    nn.init.normal_(layer.weight.data, 0.0, 0.02)


def orthogonal(layer: nn.Module) -> None:
    nn.init.orthogonal_(layer.weight)


def kaiming(layer: nn.Module) -> None:
    nn.init.kaiming_uniform_(layer.weight)


@pytest.mark.parametrize(
    "write",
    [add_to_data, new_data, fill_a_row, copy_under_no_grad, fill_a_detached_view, normal, dcgan, orthogonal, kaiming],
)
@PATHS
def test_a_write_into_w_is_refused_with_the_way_to_do_it(write: Callable[[nn.Module], None], frames: str) -> None:
    model = spectral(Net(), frames)
    before = model(inputs())
    with pytest.raises(RuntimeError, match=r"sr\.set_weight"):
        write(model.head)
    assert torch.equal(model(inputs()), before)


@PATHS
def test_model_apply_with_a_function_that_initializes_is_refused(frames: str) -> None:
    def initialize(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight.data, 0.0, 1.0)

    with pytest.raises(RuntimeError, match=r"sr\.set_weight"):
        spectral(Net(), frames).apply(initialize)


@PATHS
def test_reading_w_in_every_way_still_works(frames: str) -> None:
    weight = spectral(Net(), frames).head.weight
    plain = weight.detach().clone()
    assert torch.equal(weight.data.mean(), plain.mean())
    assert torch.equal(weight.detach().clone().mul_(2), 2 * plain)
    assert (weight.detach().cpu().numpy() == plain.numpy()).all()
    assert torch.equal(torch.as_tensor(weight.tolist()), plain)
    assert torch.linalg.matrix_norm(weight, 2).requires_grad
    assert weight.shape == (10, 48)
    assert isinstance(weight, Tensor)


@PATHS
def test_a_copy_of_w_may_be_written(frames: str) -> None:
    weight = spectral(Net(), frames).head.weight
    copied = weight.detach().clone()
    copied.zero_()
    copied.data.add_(1.0)
    nn.init.normal_(copied)
    assert not torch.equal(copied, weight)
    weight.double().mul_(2.0)


@PATHS
def test_reset_parameters_draws_the_weight_and_the_bias_anew(frames: str) -> None:
    layer = trained(spectral(Net(), frames), frames).head
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    layer.reset_parameters()
    assert not torch.allclose(layer.weight, weight, atol=1e-3)
    assert not torch.allclose(layer.bias, bias, atol=1e-3)
    assert layer.bias.abs().max() <= 48**-0.5
    assert sr.orthogonality_error(layer) < 1e-5


@PATHS
def test_autograd_grad_reaches_w_where_a_layer_builds_it(frames: str) -> None:
    model = spectral(Net(), frames)
    model.head.application = "weight"
    dense = sr.decompress(model)
    with sr.cached(model):
        (found,) = torch.autograd.grad(model(inputs()).square().mean(), model.head.weight)
    (wanted,) = torch.autograd.grad(dense(inputs()).square().mean(), dense.head.weight)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@PATHS
def test_a_hook_on_w_is_called_at_every_backward_as_on_a_dense_parameter(frames: str) -> None:
    model = spectral(Net(), frames)
    model.head.application = "weight"
    dense = sr.decompress(model)
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    handles = [model.head.weight.register_hook(found.append), dense.head.weight.register_hook(wanted.append)]
    for _ in range(2):
        model(inputs()).square().mean().backward()
        dense(inputs()).square().mean().backward()
    assert len(found) == 2
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    for handle in handles:
        handle.remove()
    model(inputs()).square().mean().backward()
    assert len(found) == 2


@PATHS
def test_a_hook_that_changes_the_gradient_of_w_changes_what_is_learned(frames: str) -> None:
    model = spectral(Net(), frames)
    model.head.application = "weight"
    model.head.weight.register_hook(torch.zeros_like)
    before = weights_of(model)
    train(model, torch.optim.SGD(model.parameters(), lr=1e-2), 1)
    assert moved(before, weights_of(model)) == {"backbone.0", "backbone.2"}


@PATHS
def test_a_hook_on_a_w_that_nothing_builds_is_refused(frames: str) -> None:
    model = spectral(Net(), frames)
    with pytest.raises(RuntimeError, match="application"):
        model.head.weight.register_hook(lambda grad: None)


@PATHS
def test_freezing_w_freezes_what_it_is_made_of(frames: str) -> None:
    model = spectral(Net(), frames)
    model.head.weight.requires_grad_(False)
    assert not model.head.weight.requires_grad
    assert model.head.bias.requires_grad
    before = weights_of(model)
    train(model, optimizer_for(frames, [p for p in model.parameters() if p.requires_grad]), 3)
    assert moved(before, weights_of(model)) == {"backbone.0", "backbone.2"}
    model.head.weight.requires_grad_(True)
    assert all(p.requires_grad for p in model.parameters())


@PATHS
def test_torchs_own_wrappers_of_a_weight_refuse_one_that_is_no_parameter(frames: str) -> None:
    for wrap in (nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm):
        with pytest.raises((ValueError, RuntimeError), match="weight"):
            wrap(spectral(nn.Linear(12, 16), frames))
