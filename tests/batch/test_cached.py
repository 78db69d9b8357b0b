"""What is shared between layers and calls is right and never stale."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import sttp_riemann as sr
from sttp_riemann.batch import cached
from sttp_riemann.batch.batch import Plan
from sttp_riemann.lab.bench.race import count_calls


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
    frames: str, together: bool, monkeypatch
) -> None:
    model = _discriminator(frames)
    real, fake = torch.randn(8, 12), torch.randn(8, 12)
    losses = [lambda m: (1 - m(real)).relu().mean(), lambda m: (1 + m(fake)).relu().mean()]
    builds = _count_builds(monkeypatch)
    with sr.cached(model):
        if together:
            (losses[0](model) + losses[1](model)).backward()
        else:
            losses[0](model).backward()
            losses[1](model).backward()
    assert builds == [1]
    for p, expected in zip(model.parameters(), _reference_gradients(model, losses), strict=True):
        torch.testing.assert_close(p.grad, expected)


def _count_builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    builds, call = [0], Plan.__call__

    def counting(self, *arguments):
        builds[0] += 1
        return call(self, *arguments)

    monkeypatch.setattr(Plan, "__call__", counting)
    return builds


@FRAMES
def test_a_forward_of_the_model_builds_once_and_keeps_nothing(frames: str, monkeypatch) -> None:
    model, x = _discriminator(frames), torch.randn(8, 12)
    builds = _count_builds(monkeypatch)
    model(x)
    assert builds == [1]
    model(x)
    assert builds == [2]
    assert cached._SCOPES.open == []


@FRAMES
def test_a_layer_called_alone_builds_its_own(frames: str, monkeypatch) -> None:
    model, x = _discriminator(frames), torch.randn(8, 12)
    expected = model(x)
    builds = _count_builds(monkeypatch)
    torch.testing.assert_close(model[4](model[2:4](model[0:2](x))), expected)
    assert builds == [3]


def test_nothing_is_kept_after_a_forward_that_fails() -> None:
    model = _discriminator("riemannian")
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.randn(8, 13))
    assert cached._SCOPES.open == []


def test_an_interrupted_forward_leaves_nothing_that_is_used_again() -> None:
    model, x = _discriminator("householder"), torch.randn(8, 12)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handle = model[2].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(x)
    handle.remove()
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        for p in model.parameters():
            p.data += 0.1
    assert not torch.allclose(model[0].weight, before)
    assert cached._SCOPES.open == []


def test_gradients_are_there_after_no_grad_and_inference_mode_inside_one_context() -> None:
    model = _discriminator("householder")
    with sr.cached(model):
        with torch.inference_mode():
            assert model[0].weight.is_inference()
        with torch.no_grad():
            assert model[0].factors()[0].grad_fn is None
        out = model[0].factors()[0]
        assert out.requires_grad
        assert not out.is_inference()
        with torch.no_grad():
            assert model[0].factors()[0] is out


def test_a_weight_read_without_gradients_has_them_later_in_one_context() -> None:
    model = _discriminator("householder")
    with sr.cached(model):
        model[0].factors()
        with torch.no_grad():
            assert not model[0].weight.grad_fn
        assert model[0].weight.grad_fn


@FRAMES
def test_equal_small_weights_are_multiplied_out_in_one_call(frames: str) -> None:
    torch.manual_seed(0)
    model = sr.reparameterize(nn.Sequential(*(nn.Linear(8, 8) for _ in range(4))), 4, frames=frames)
    with sr.cached(model):
        first = count_calls(lambda: model[0].built_weight())
        assert count_calls(lambda: [layer.built_weight() for layer in model[1:]]) == 0 < first
        model[0].built_weight().sum().backward()
    assert all(p.grad is None for p in model[1:].parameters())
    assert any(p.grad is not None for p in model[0].parameters())


def test_freezing_inside_a_context_stops_the_gradient() -> None:
    model = _discriminator("householder")
    with sr.cached(model):
        assert model[0].factors()[0].requires_grad
        model[0].requires_grad_(False)
        assert not model[0].factors()[0].requires_grad
        assert model[2].factors()[0].requires_grad


@FRAMES
def test_building_is_differentiable_twice(frames: str) -> None:
    model = sr.reparameterize(nn.Linear(3, 4).double(), 2, frames=frames, init="orthogonal")
    with torch.no_grad():
        model.spectrum.copy_(torch.tensor([1.0, 0.5]))
    names = [name for name, _ in model.named_parameters() if name != "bias"]
    inputs = [model.get_parameter(name).detach().as_subclass(torch.Tensor).requires_grad_() for name in names]

    def weight(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(_Weight(model), {f"layer.{n}": v for n, v in zip(names, values, strict=True)})

    assert torch.autograd.gradcheck(weight, inputs)
    assert torch.autograd.gradgradcheck(weight, inputs)


class _Weight(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> torch.Tensor:
        left, right = self.layer.factors()
        return left @ right.mT


@FRAMES
def test_a_batch_keeps_no_model_alive_and_travels_with_no_copy(frames: str) -> None:
    model = _discriminator(frames)
    model(torch.randn(8, 12))
    twin = copy.deepcopy(model)
    twin(torch.randn(8, 12))
    alive = weakref.ref(model[0])
    del model
    gc.collect()
    assert alive() is None
    assert not any("plan" in name.lower() for module in twin.modules() for name in vars(module))


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
    name, p = next(
        (n, p) for n, p in model.named_parameters() if ("left" in n or "right" in n) and p.grad.abs().max() > 1e-6
    )
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


class Step(nn.Module):
    """A model whose forward is a whole step of its training, as Lightning calls a module under DDP."""

    def __init__(self, frames: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(24, 48), nn.Linear(48, 24)
        sr.reparameterize(self, 8, frames=frames)

    def forward(self, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> list[float]:
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = (self.b(self.a(x)) - 1).square().mean()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                after = (self.b(self.a(x)) - 1).square().mean()
            losses += [loss.item(), after.item()]
        return losses


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_after_a_step_inside_a_forward_weights_are_built_anew(frames: str) -> None:
    inside, outside, x = Step(frames), Step(frames), torch.randn(8, 24)
    optimizers = [sr.RiemannianAdam(model.parameters(), lr=1e-2) for model in (inside, outside)]
    assert inside(x, optimizers[0]) == outside.forward(x, optimizers[1])


def test_a_step_changes_nothing_inside_cached() -> None:
    model, x = Step("householder"), torch.randn(8, 24)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with sr.cached(model), torch.no_grad():
        before = model.a(x)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        bias = model.a.bias.clone()
        optimizer.step()
        assert torch.allclose(model.a(x) - model.a.bias, before - bias, atol=1e-5)
    assert not torch.allclose(model.a(x) - model.a.bias, before - bias, atol=1e-3)
