"""Check an optimizer that steps frames."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.model.gauge import gauge_fix
from sttp_riemann.model.measures import orthogonality_error
from sttp_riemann.model.reparameterize import reparameterize
from sttp_riemann.testing.models import copy_of, equal, gap, require, tensors_of, turn_, weights_of

Maker = Callable[[Iterable[Any]], Optimizer]
STEPS = 8
SAME = 1e-12
"""Largest difference of a weight's entry between two gauges, in float64."""
LONG = 100
KEPT = 1e-5
"""Largest orthogonality error after `LONG` steps in float32."""


def check_optimizer(make: Maker, plain: Maker | None = None) -> None:
    """Check an optimizer for Riemannian frames.

    Weights move alike in every gauge, from the start and when the gauge changes in between; frames stay orthonormal;
    plain parameters move bitwise as in torch; training resumes from a saved state bit for bit; and a gradient that is
    not finite is refused before anything has changed.

    Parameters
    ----------
    make : callable
        From parameters to the optimizer, for example ``lambda p: sr.RiemannianAdam(p, lr=1e-2)``.
    plain : callable, optional
        The same for the torch optimizer to compare plain parameters with; without it they are not compared.

    Raises
    ------
    AssertionError
        One line on what does not hold.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> import sttp_riemann.testing
    >>> sr.testing.check_optimizer(
    ...     lambda parameters: sr.RiemannianSGD(parameters, lr=1e-2, momentum=0.9),
    ...     lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
    ... )
    """
    _check_gauge(make)
    _check_orthogonality(make)
    if plain is not None:
        _check_plain(make, plain)
    _check_state(make)
    for value in (float("nan"), float("inf")):
        _check_refusal(make, value)


def _check_gauge(make: Maker) -> None:
    for spectrum in ("learned", "identity"):
        straight, turned, between, fixed = (_model(spectrum=spectrum).double() for _ in range(4))
        before = weights_of(straight)
        turn_(turned)
        require(gap(weights_of(turned), before) < SAME, "a gauge move changed the weights")
        optimizer, other = make(fixed.parameters()), make(between.parameters())
        _train(straight, make(straight.parameters()), 2 * STEPS)
        _train(turned, make(turned.parameters()), 2 * STEPS)
        require(gap(weights_of(straight), before) > 1e-6, "weights do not move in a step")
        difference = gap(weights_of(turned), weights_of(straight))
        require(
            difference < SAME,
            f"weights depend on the gauge: after {2 * STEPS} steps from a random one they are {difference:.1e} apart",
        )
        _train(fixed, optimizer, STEPS)
        try:
            gauge_fix(fixed, optimizer)
        except ValueError as error:
            raise AssertionError(f"the gauge cannot be fixed: {error}") from error
        _train(fixed, optimizer, STEPS)
        difference = gap(weights_of(fixed), weights_of(straight))
        require(
            difference < SAME,
            f"fixing the gauge changes what follows: {STEPS} steps later weights are {difference:.1e} apart",
        )
        _train(between, other, STEPS)
        turn_(between, 1, other)
        _train(between, other, STEPS)
        difference = gap(weights_of(between), weights_of(straight))
        require(
            difference < SAME,
            f"a gauge move changes what follows: {STEPS} steps later weights are {difference:.1e} apart",
        )


def _check_orthogonality(make: Maker) -> None:
    model = _model()
    _train(model, make(model.parameters()), LONG)
    error = orthogonality_error(model)
    require(error < KEPT, f"frames leave their manifold: after {LONG} steps in float32 their error is {error:.1e}")


def _check_plain(make: Maker, plain: Maker) -> None:
    ours = nn.Sequential(nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 24))
    theirs = copy_of(ours)
    _train(ours, make(ours.parameters()), STEPS)
    optimizer = plain(theirs.parameters())
    _train(theirs, optimizer, STEPS)
    require(
        equal(list(ours.parameters()), list(theirs.parameters())),
        f"plain parameters do not move as {type(optimizer).__name__} moves them: make both with the same options",
    )


def _check_state(make: Maker) -> None:
    model = _model()
    optimizer = make(model.parameters())
    _train(model, optimizer, STEPS)
    other, resumed = _twin(model, optimizer, make)
    _train(model, optimizer, STEPS)
    _train(other, resumed, STEPS)
    same = equal(tensors_of(model.state_dict()), tensors_of(other.state_dict()))
    require(same, "training does not resume bit for bit after load_state_dict: the state lacks something")


def _check_refusal(make: Maker, value: float) -> None:
    model = _model()
    optimizer = make(model.parameters())
    _train(model, optimizer, STEPS)
    other, untouched = _twin(model, optimizer, make)
    _loss(model).backward()
    last = [p for p in model.parameters() if p.grad is not None][-1]
    assert last.grad is not None
    last.grad.view(-1)[0] = value
    before = tensors_of(model.state_dict()), tensors_of(optimizer.state_dict())
    try:
        optimizer.step()
    except ValueError:
        pass
    else:
        raise AssertionError(f"a gradient that holds {value} is not refused with a ValueError")
    after = tensors_of(model.state_dict()), tensors_of(optimizer.state_dict())
    require(equal(before[0], after[0]), f"parameters moved before a gradient that holds {value} was refused")
    require(equal(before[1], after[1]), f"the state changed before a gradient that holds {value} was refused")
    _train(model, optimizer, STEPS)
    _train(other, untouched, STEPS)
    same = equal(tensors_of(model.state_dict()), tensors_of(other.state_dict()))
    require(same, f"training continues differently after a gradient that holds {value} was refused")


def _model(**options: Any) -> nn.Module:
    layer = nn.Linear(36, 24)
    with torch.no_grad():
        layer.bias.zero_()
    return reparameterize(layer, 6, init="orthogonal", **options)


def _twin(model: nn.Module, optimizer: Optimizer, make: Maker) -> tuple[nn.Module, Optimizer]:
    other = copy_of(model)
    resumed = make(other.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other, resumed


def _train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        _loss(model).backward()
        optimizer.step()


def _loss(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    dtype = next(model.parameters()).dtype
    inputs, wanted = (torch.randn(32, n, dtype=torch.float64, generator=generator).to(dtype) for n in (36, 24))
    loss: Tensor = (model(inputs) - wanted).square().mean()
    return loss
