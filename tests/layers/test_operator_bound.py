"""Layers whose norm as an operator on whole maps is bounded."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.batch.operators import bound_operators
from sttp_riemann.trains.operators import circular_singular_values
from sttp_riemann.trains.places import Places
from tests.strategies import LAYER_KINDS, disturb, whole_norm

METHOD_AND_FRAMES = [("sttp", "riemannian"), ("svdp", "householder"), ("svdp", "riemannian"), ("sttp", "householder")]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(8, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 6, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Flatten(),
        nn.Linear(6 * 64, 4),
    )


def fourier_norm(layer: nn.Module) -> float:
    """With circular padding, on maps of 16 x 16; a transposed convolution has the norm of its adjoint."""
    blocks = layer.weight.detach().double().unflatten(0, (layer.groups, -1))
    places = (16, 16), layer.stride[0], layer.dilation[0]
    return max(float(circular_singular_values(block, *places).max()) for block in blocks)


@pytest.mark.parametrize("spectrum", ["learned", "identity"])
@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_the_norm_of_the_whole_operator_is_at_most_the_bound(kind: str, spectrum: str) -> None:
    make, size = LAYER_KINDS[kind]
    for method, frames in METHOD_AND_FRAMES[:: 3 if spectrum == "identity" else 1]:
        layer = sr.reparameterize(make(), 4, method, frames, spectrum, bound_of="operator", spectral_bound=0.5)
        disturb(layer)
        assert whole_norm(layer, size) <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_the_norm_stays_under_the_bound_at_twenty_moments_of_a_training(frames: str) -> None:
    model = sr.reparameterize(network(), 6, frames=frames, bound_of="operator")
    optimizer = sr.RiemannianAdam(model.parameters(), lr=0.03)
    x = torch.randn(2, 3, 8, 8)
    largest = []
    for _ in range(20):
        optimizer.zero_grad()
        model(x).square().mean().neg().backward()
        optimizer.step()
        norms = [fourier_norm(layer) for layer in model if hasattr(layer, "kernel_size")]
        assert max(norms) <= 1 + 1e-5
        largest.append(min(norms))
    assert min(largest) > 0.9


@pytest.mark.parametrize("kind", ["conv2d", "grouped conv2d", "grouped transposed conv2d"])
def test_all_applications_compute_with_the_scaled_weight(kind: str) -> None:
    make, size = LAYER_KINDS[kind]
    layer, x = disturb(sr.reparameterize(make(), 4, bound_of="operator")), torch.randn(size)
    wanted = sr.decompress(layer)(x)
    for application in ("auto", "weight", "factored"):
        layer.application = application
        torch.testing.assert_close(layer(x), wanted, rtol=1e-5, atol=1e-6)
    left, right = layer.build_factors()
    torch.testing.assert_close(layer.to_matrix(layer.weight), left @ right.mT, rtol=1e-5, atol=1e-6)
    values = torch.linalg.svdvals(layer.to_matrix(layer.weight.detach()))[: layer.rank]
    torch.testing.assert_close(sr.singular_values(layer)[""], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "places",
    [
        Places((3,), (1,), (1,), ((0, 0),), "zeros", 1, False),
        Places((3,), (2,), (1,), ((1, 1),), "reflect", 1, False),
        Places((3,), (2,), (1,), ((0, 0),), "zeros", 2, True),
        Places((3,), (1,), (1,), ((0, 0),), "zeros", 2, False),
    ],
)
def test_the_gradient_knows_of_the_scaling(places: Places) -> None:
    def bounded(left: Tensor, right: Tensor) -> Tensor:
        pairs = [[left, right]]
        bound_operators([SimpleNamespace(operator=places, bound=0.7)], pairs)
        return pairs[0][0]

    torch.manual_seed(0)
    factors = [torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (2 * places.groups, 6)]
    assert torch.autograd.gradcheck(bounded, factors)
    assert torch.autograd.gradgradcheck(bounded, factors)


def test_a_forward_serves_several_losses_and_a_gradient_penalty() -> None:
    model = sr.reparameterize(network(), 4, bound_of="operator")
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with sr.cached(model):
        first, second = model(x).sum(), model(x).square().sum()
        first.backward()
        second.backward()
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model[2].parameters())


def test_frames_gauge_and_states_travel_without_a_change_of_the_weights(tmp_path) -> None:
    model = disturb(sr.reparameterize(network(), 4, bound_of="operator"))
    x = torch.randn(2, 3, 8, 8)
    wanted = model(x)
    for change in (sr.canonicalize, sr.gauge_fix, lambda m: sr.convert_frames(m, "householder")):
        change(model)
        torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-6)
    sr.save(model, tmp_path / "model")
    again = sr.load(tmp_path / "model", network())
    assert torch.equal(again(x), model(x))
    assert again[0].options.bound_of == "operator"
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_a_state_tells_what_is_bounded_and_does_not_fit_the_other() -> None:
    layers = [sr.reparameterize(nn.Conv2d(3, 4, 3), 2, bound_of=kind) for kind in ("matrix", "operator")]
    assert "bound_of" not in layers[0].told()
    for mine, other in (layers, layers[::-1]):
        with pytest.raises(RuntimeError, match=f"bound_of is {mine.options.bound_of!r} here and"):
            mine.load_state_dict(other.state_dict())


def test_a_dense_weight_is_kept_and_its_norm_is_the_bound() -> None:
    dense = network()
    model = sr.reparameterize(copy.deepcopy(dense), 1.0, init="dense", bound_of="operator")
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x), dense(x), rtol=1e-4, atol=1e-5)
    assert all(layer.dense_error < 1e-5 for layer in model if hasattr(layer, "dense_error"))
    assert fourier_norm(model[0]) <= model[0].bound <= 1.06 * fourier_norm(model[0])
    weight = 3 * torch.randn_like(dense[0].weight)
    assert sr.set_weight(model[0], weight) < 1e-5
    torch.testing.assert_close(model[0].weight, weight, rtol=1e-4, atol=1e-5)


def test_linear_layers_are_bounded_as_matrices() -> None:
    torch.manual_seed(0)
    dense, x = nn.Linear(12, 8), torch.randn(3, 12)
    layers = [sr.reparameterize(copy.deepcopy(dense), 4, bound_of=kind) for kind in ("matrix", "operator")]
    assert torch.equal(layers[0](x), layers[1](x))


def test_arithmetic_is_in_float32_under_autocast() -> None:
    layer = sr.reparameterize(nn.Conv2d(6, 8, 3, padding=1), 4, bound_of="operator")
    wanted = layer.weight.detach().clone()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer.weight.detach(), wanted, rtol=1e-6, atol=1e-7)
        layer(torch.randn(1, 6, 5, 5)).sum().backward()
    assert layer.spectrum.grad.isfinite().all()


def test_a_spectrum_of_zeros_stays_zero_with_a_finite_gradient() -> None:
    layer = sr.reparameterize(nn.Conv2d(6, 8, 3), 4, bound_of="operator")
    with torch.no_grad():
        layer.spectrum.zero_()
    layer(torch.randn(1, 6, 5, 5)).sum().backward()
    assert not layer.weight.any()
    assert layer.spectrum.grad.isfinite().all()


def test_what_has_no_bound_or_several_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown bound_of 'layer'; choose one of"):
        sr.reparameterize(nn.Linear(4, 4), 2, bound_of="layer")
    with pytest.raises(ValueError, match="bounds nothing with a free spectrum"):
        sr.reparameterize(nn.Linear(4, 4), 2, spectrum="free", bound_of="operator")
    twins = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, stride=2))
    twins[1].weight = twins[0].weight
    with pytest.raises(ValueError, match="shares its weight with one of another stride"):
        sr.reparameterize(twins, 2, bound_of="operator")
    apart = [sr.reparameterize(nn.Conv2d(4, 4, 3, stride=stride), 2, bound_of="operator") for stride in (1, 2)]
    with pytest.raises(ValueError, match="in the same way to share it"):
        apart[0].tie(apart[1])


def test_it_compiles_to_one_graph() -> None:
    layer, x = sr.reparameterize(nn.Conv1d(3, 4, 3), 2, "svdp", bound_of="operator"), torch.randn(1, 3, 6)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)
