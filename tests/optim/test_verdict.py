"""On an accelerator a step reads nothing back: gradients that are no numbers undo it there, and the next step tells."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import geoopt
import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.optim import adam, stepping, verdict
from sttp_riemann.optim.gradients import GradientError, all_small, are_small
from tests.workflows.common import Net, spectral, train
from tests.workflows.test_nan_gradient import poison, tensors

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "cores": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2, fused=True),
    "matrix": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2, fused=True, moment="matrix"),
    "polar": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2, fused=True, moment="polar"),
    "AMSGrad": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2, fused=True, amsgrad=True),
    "ascent": lambda parameters: sr.RiemannianAdam(parameters, lr=1e-3, fused=True, maximize=True),
    "SGD": lambda parameters: sr.RiemannianSGD(parameters, lr=1e-2, fused=True, momentum=0.9, dampening=0.5),
}
Maker = Callable[..., Any]


@pytest.fixture(autouse=True)
def _as_if_reading_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stepping, adam):
        monkeypatch.setattr(module, "waits", lambda device: True)


def _trained(make: Maker, steps: int) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = spectral(Net(), "riemannian")
    optimizer = make(model.parameters())
    train(model, optimizer, steps)
    return model, optimizer


# After twenty steps "cores" finds its bases anew
@pytest.mark.parametrize("before", [0, 3, 20])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_refused_step_leaves_everything_as_it_was_and_the_next_one_tells(make: Maker, before: int) -> None:
    model, optimizer = _trained(make, before)
    names = [name for name, _ in model.named_parameters()]
    for name in ("backbone.0.left.0", "head.bias"):
        twin = copy.deepcopy(model)
        twin_optimizer = make(twin.parameters())
        twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        poison(model, name, float("nan"))
        optimizer.step()
        assert all(map(torch.equal, tensors(model.state_dict()), tensors(twin.state_dict())))
        with pytest.raises(GradientError, match="in the step before") as error:
            optimizer.step()
        assert names[[id(p) for p in model.parameters()].index(id(error.value.parameter))] == name
        assert all(map(torch.equal, tensors(model.state_dict()), tensors(twin.state_dict())))
        assert train(model, optimizer, 2) == train(twin, twin_optimizer, 2)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_are_those_that_read_back_up_to_rounding(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = _trained(make, 30)
    for module in (stepping, adam):
        monkeypatch.setattr(module, "waits", lambda device: False)
    other, _ = _trained(make, 30)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert sr.orthogonality_error(model) < 1e-5


@pytest.mark.parametrize(
    "take", [lambda o: o.state_dict(), copy.deepcopy, pickle.dumps], ids=["state", "copy", "pickle"]
)
def test_a_state_that_is_taken_does_not_count_a_refused_step(take: Callable[[Any], Any]) -> None:
    model, optimizer = _trained(OPTIMIZERS["cores"], 3)
    poison(model, "backbone.0.left.0", float("nan"))
    optimizer.step()
    with pytest.warns(UserWarning, match="in the step before"):
        take(optimizer)
    frames = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    assert {optimizer.state[p]["step"] for p in frames} == {3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take(optimizer)


def test_a_state_that_is_loaded_knows_of_no_step_before() -> None:
    model, optimizer = _trained(OPTIMIZERS["cores"], 3)
    state = copy.deepcopy(optimizer.state_dict())
    poison(model, "backbone.0.left.0", float("nan"))
    optimizer.step()
    optimizer.load_state_dict(state)
    assert len(train(model, optimizer, 2)) == 2
    assert {own["step"] for own in optimizer.state.values() if isinstance(own["step"], int)} == {5}


def test_plain_parameters_that_cannot_undo_their_step_are_looked_at_before_it() -> None:
    model = spectral(Net(), "riemannian")
    optimizer = sr.RiemannianAdam(model.parameters(), fused=False)
    poison(model, "head.bias", float("nan"))
    with pytest.raises(GradientError, match="nothing was changed: leave this step out"):
        optimizer.step()


class Sharded(torch.Tensor):
    """Stands for a gradient that is spread over processes."""


def test_gradients_that_are_not_plain_tensors_are_looked_at_before_the_step() -> None:
    model, optimizer = _trained(OPTIMIZERS["cores"], 1)
    poison(model, "head.bias", float("nan"))
    bias = model.get_parameter("head.bias")
    bias.grad = bias.grad.as_subclass(Sharded)
    with pytest.raises(GradientError, match="nothing was changed: leave this step out"):
        optimizer.step()


@pytest.mark.parametrize(("kind", "expected"), [("cpu", False), ("cuda", True), ("mps", False), ("meta", False)])
def test_only_devices_that_can_tell_later_are_asked_later(kind: str, expected: bool) -> None:
    assert verdict.waits(torch.device(kind)) is expected


def test_a_learning_rate_that_is_no_number_is_told_at_once() -> None:
    _, optimizer = _trained(OPTIMIZERS["cores"], 1)
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="learning rate of parameter group 0 is nan"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1.0, 1e16, float("nan"), float("inf")])
def test_gradients_are_refused_for_the_same_reasons(value: float, dtype: torch.dtype) -> None:
    gradients = [torch.ones(3), torch.full((2, 2), value, dtype=dtype)]
    assert bool(are_small(gradients).all()) == all_small(gradients)
