"""A gradient that is no number is refused before anything has moved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.optim.gradients import GradientError
from tests.workflows.common import Net, inputs, spectral, train

OPTIMIZERS = {
    "Adam": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2),
    "AMSGrad": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2, amsgrad=True),
    "SGD": lambda parameters: sr.RiemannianSGD(parameters, lr=1e-2, momentum=0.9),
    "Nesterov": lambda parameters: sr.RiemannianSGD(parameters, lr=1e-2, momentum=0.9, nesterov=True),
    "descent": lambda parameters: sr.RiemannianSGD(parameters, lr=1e-2, weight_decay=1e-2),
}
Maker = Callable[[Any], torch.optim.Optimizer]


def poison(model: nn.Module, name: str, value: float) -> None:
    """Gradients as after a backward, with one entry of one of them spoilt."""
    model.zero_grad()
    (model(inputs()) - 1).square().mean().backward()
    model.get_parameter(name).grad.view(-1)[0] = value


def tensors(state: Any) -> list[torch.Tensor]:
    """Every tensor in a state, in order."""
    if isinstance(state, torch.Tensor):
        return [state.clone()]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["backbone.0.left.0", "head.right.0"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_the_step_is_refused_the_state_is_as_before_and_the_next_step_works(
    make: Maker, name: str, value: float, before: int
) -> None:
    model = spectral(Net(), "riemannian")
    optimizer = make(model.parameters())
    train(model, optimizer, before)
    twin = copy.deepcopy(model)
    twin_optimizer = make(twin.parameters())
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    poison(model, name, value)
    parameters, state = tensors(model.state_dict()), tensors(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"NaN|infinite|not finite"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(tensors(model.state_dict()), parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tensors(optimizer.state_dict()), state, strict=True))
    assert train(model, optimizer, 3) == train(twin, twin_optimizer, 3)
    assert sr.orthogonality_error(model) < 1e-5


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_bad_gradient_of_any_parameter_is_refused_and_leaves_nothing_behind(make: Maker, frames: str) -> None:
    model = spectral(Net(), frames)
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    twin = copy.deepcopy(model)
    twin_optimizer = make(twin.parameters())
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number, (name, parameter) in enumerate(model.named_parameters()):
        poison(model, name, float("nan"))
        with pytest.raises(GradientError, match=f"the gradient of parameter number {number} of group 0") as error:
            optimizer.step()
        assert error.value.parameter is parameter
    assert train(model, optimizer, 3) == train(twin, twin_optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(tensors(model.state_dict()), tensors(twin.state_dict()), strict=True))


def test_a_loss_scale_that_overflowed_is_skipped_by_torchs_scaler() -> None:
    """GradScaler looks at gradients first and does not call step: nothing is refused."""
    model = spectral(Net(), "riemannian")
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = tensors(model.state_dict())
    scaler.scale((model(inputs()) * float("inf")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(tensors(model.state_dict()), before, strict=True))
    assert scaler.get_scale() < 2.0**10
