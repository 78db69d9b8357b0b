"""What is shared between calls is right and never stale."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import sttp_riemann as sr
from sttp_riemann.reuse import Reusable
from sttp_riemann.views import spectral_layers


class _Counter:
    """A build that counts its calls: x -> (x^2, x^3)."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        return x**2, x**3


def test_the_same_tensor_is_built_from_once() -> None:
    build, x = _Counter(), torch.tensor([2.0, 3.0], requires_grad=True)
    reusable = Reusable(build)
    assert reusable(x)[0] is reusable(x)[0]
    assert build.calls == 1


def test_several_backward_calls_through_what_is_shared_add_up() -> None:
    build, x = _Counter(), torch.tensor([2.0], requires_grad=True)
    reusable = Reusable(build)
    reusable(x)[0].sum().backward()
    reusable(x)[1].sum().backward()
    assert build.calls == 1
    torch.testing.assert_close(x.grad, torch.tensor([2 * 2.0 + 3 * 4.0]))


def test_an_in_place_change_makes_it_anew() -> None:
    build, x = _Counter(), torch.tensor([2.0], requires_grad=True)
    reusable = Reusable(build)
    reusable(x)
    with torch.no_grad():
        x.mul_(2)
    assert reusable(x)[0].item() == 16.0
    with torch.no_grad():
        reusable(x)[0].zero_()
    assert reusable(x)[0].item() == 16.0


def test_gradients_are_there_again_after_no_grad_and_inference_mode() -> None:
    build, x = _Counter(), torch.tensor([2.0], requires_grad=True)
    reusable = Reusable(build)
    with torch.no_grad():
        assert not reusable(x)[0].requires_grad
    with torch.inference_mode():
        assert reusable(x)[0].item() == 4.0
    out = reusable(x)[0]
    assert out.requires_grad
    assert not out.is_inference()
    with torch.no_grad():
        assert reusable(x)[0] is out


def test_freezing_an_input_stops_its_gradient() -> None:
    build, x = _Counter(), torch.tensor([2.0], requires_grad=True)
    reusable = Reusable(build)
    assert reusable(x)[0].requires_grad
    x.requires_grad_(False)
    assert not reusable(x)[0].requires_grad
    x.requires_grad_(True)
    assert reusable(x)[0].requires_grad


def test_it_is_differentiable_twice() -> None:
    x = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: Reusable(_Counter())(t), x)


def _discriminator(frames: str) -> nn.Module:
    torch.manual_seed(0)
    return sr.reparameterize(
        nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)), 4, frames=frames
    )


FRAMES = pytest.mark.parametrize("frames", ["riemannian", "householder"])


def _reference_gradients(model: nn.Module, losses) -> list[torch.Tensor]:
    """Gradients with nothing shared: every loss through a fresh copy."""
    total: list[torch.Tensor] = [torch.zeros_like(p) for p in model.parameters()]
    for loss in losses:
        twin = copy.deepcopy(model)
        twin.zero_grad()
        loss(twin).backward()
        total = [t + p.grad for t, p in zip(total, twin.parameters(), strict=True)]
    return total


@FRAMES
@pytest.mark.parametrize("together", [True, False])
def test_a_discriminator_that_sees_real_and_fake_builds_once_with_correct_gradients(
    frames: str, together: bool
) -> None:
    model = _discriminator(frames)
    real, fake = torch.randn(8, 12), torch.randn(8, 12)
    losses = [lambda m: (1 - m(real)).relu().mean(), lambda m: (1 + m(fake)).relu().mean()]
    builds = _count_builds(model)
    if together:
        (losses[0](model) + losses[1](model)).backward()
    else:
        losses[0](model).backward()
        losses[1](model).backward()
    assert builds == [1]
    for p, expected in zip(model.parameters(), _reference_gradients(model, losses), strict=True):
        torch.testing.assert_close(p.grad, expected)


def _count_builds(model: nn.Module) -> list[int]:
    factors = next(iter(spectral_layers(model).values())).factors
    builds, build = [0], factors._cores.build

    def counting(*tensors: torch.Tensor):
        builds[0] += 1
        return build(*tensors)

    factors._cores.build = counting
    return builds


@FRAMES
def test_nothing_is_stale_after_a_step_a_load_an_eval_or_a_copy(frames: str) -> None:
    model, x = _discriminator(frames), torch.randn(8, 12)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-1)
    saved = copy.deepcopy(model.state_dict())
    first = model(x).detach()
    model(x).sum().backward()
    optimizer.step()
    assert not torch.allclose(model(x), first, atol=1e-4)
    torch.testing.assert_close(model(x), sr.decompress(model)(x))
    model.load_state_dict(saved)
    assert torch.equal(model(x), first)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), first)
        copied = copy.deepcopy(model)
        for p in copied.parameters():
            p.mul_(1.01)
        assert not torch.equal(copied(x), first)
    assert torch.equal(model.train()(x), first)
    sr.convert_frames(model, "householder" if frames == "riemannian" else "riemannian")
    torch.testing.assert_close(model(x), first, rtol=1e-5, atol=1e-5)


@FRAMES
def test_a_layer_used_twice_gets_both_gradients(frames: str) -> None:
    torch.manual_seed(0)
    layer = sr.reparameterize(nn.Linear(12, 12), 4, frames=frames)
    x = torch.randn(5, 12)
    layer(layer(x)).square().sum().backward()
    with_sharing = [p.grad.clone() for p in layer.parameters()]
    dense = sr.decompress(layer)
    dense(dense(x)).square().sum().backward()
    layer.zero_grad()
    (layer.weight * dense.weight.grad).sum().backward()
    for p, g in zip(layer.parameters(), with_sharing, strict=True):
        if p is not layer.bias:
            torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-5)


@FRAMES
def test_a_gradient_penalty_reaches_the_parameters(frames: str) -> None:
    model = _discriminator(frames).double()
    x = torch.randn(8, 12, dtype=torch.float64, requires_grad=True)

    def penalty(m: nn.Module) -> torch.Tensor:
        (slope,) = torch.autograd.grad(m(x).sum(), x, create_graph=True)
        return (slope.norm(dim=1) - 1).square().mean()

    penalty(model).backward()
    name, p = next((n, p) for n, p in model.named_parameters() if "banks" in n and p.grad.abs().max() > 1e-6)
    index = int(p.grad.abs().argmax())
    values = []
    for sign in (1, -1):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.get_parameter(name).view(-1)[index] += sign * 1e-6
        values.append(float(penalty(twin).detach()))
    assert p.grad.view(-1)[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


@FRAMES
def test_functional_calls_and_vmapped_gradients_see_the_tensors_they_are_given(frames: str) -> None:
    model = _discriminator(frames)
    x = torch.randn(6, 12)
    model(x)
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    other = {n: 1.1 * p for n, p in parameters.items()}
    assert not torch.allclose(torch.func.functional_call(model, other, (x,)), model(x))
    gradient = torch.func.grad(lambda p, row: torch.func.functional_call(model, p, (row,)).sum())
    per_sample = torch.func.vmap(gradient, (None, 0))(parameters, x)
    model.zero_grad()
    model(x).sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(per_sample[name].sum(0), p.grad, rtol=1e-4, atol=1e-5)


@FRAMES
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpoints_give_the_same_gradients(frames: str, reentrant: bool) -> None:
    x, gradients = torch.randn(6, 12), []
    for whole, save in ((True, False), (True, True), (False, True)):
        model, out = _discriminator(frames), x.clone().requires_grad_()  # anew: nothing is built before a checkpoint
        leaves = [out, *model.parameters()]
        for module in [model] if whole else model:
            out = checkpoint(module, out, use_reentrant=reentrant) if save else module(out)
        out.square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])
