"""Riemannian optimizers: against torch's own, against geoopt's, and along the gauge."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import geoopt
import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import PolarStiefel
from tests.strategies import random_frame


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, x: torch.Tensor, y: torch.Tensor) -> float:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


PLAIN_ADAM = [
    {},
    {"betas": (0.0, 0.9)},
    {"weight_decay": 0.1},
    {"amsgrad": True},
    {"maximize": True},
    {"foreach": True},
    {"fused": True},
    {"moment": "polar"},
    {"moment": "cores", "amsgrad": True},
    {"max_angle": 0.1},
]
PLAIN_ADAMW = [{"weight_decay": 0.1}, {"weight_decay": 0.1, "amsgrad": True, "maximize": True}]
PLAIN_SGD = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "dampening": 0.2, "weight_decay": 0.1},
    {"maximize": True, "foreach": False},
    {"momentum": 0.9, "fused": True},
]


@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [(sr.RiemannianAdam, torch.optim.Adam, o) for o in PLAIN_ADAM]
    + [(partial(sr.RiemannianAdam, decoupled_weight_decay=True), torch.optim.AdamW, o) for o in PLAIN_ADAMW]
    + [(sr.RiemannianSGD, torch.optim.SGD, o) for o in PLAIN_SGD],
)
def test_plain_parameters_move_exactly_as_torch_moves_them(ours: Any, torchs: type, options: dict) -> None:
    dense = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(16, 6), torch.randn(16, 3)
    models = []
    for kind in (ours, torchs):
        if kind is torchs:
            options = {name: value for name, value in options.items() if name not in ("moment", "max_angle")}
        model = copy.deepcopy(dense)
        groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 3e-3}]
        _train(model, kind(groups, lr=1e-2, **options), 10, x, y)
        models.append(model)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(a, b)


def _one_frame(steps: int = 5, **options: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A frame under fixed gradients, by our Adam and by geoopt's."""
    start = random_frame(9, 4, 0, batch=3)
    gradients = torch.randn(steps, 3, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = []
    as_geoopt = {"match_adam": False, "moment": "matrix"}
    for kind, extra in ((sr.RiemannianAdam, as_geoopt), (geoopt.optim.RiemannianAdam, {})):
        point = geoopt.ManifoldParameter(start.clone(), manifold=PolarStiefel())
        optimizer = kind([point], lr=0.1, **options, **extra)
        for gradient in gradients:
            point.grad = gradient.clone()
            optimizer.step()
        ends.append(point.detach())
    return ends[0], ends[1]


@pytest.mark.parametrize("options", [{}, {"betas": (0.0, 0.9)}, {"amsgrad": True}, {"eps": 1e-3}])
def test_without_matching_a_frame_moves_as_geoopts_adam_moves_it(options: dict) -> None:
    torch.testing.assert_close(*_one_frame(**options))


def test_sgd_with_momentum_moves_a_frame_as_geoopts_does() -> None:
    start, gradients = random_frame(9, 4, 0), torch.randn(6, 1, 9, 4, dtype=torch.float64)
    ends = []
    for kind in (sr.RiemannianSGD, geoopt.optim.RiemannianSGD):
        point = geoopt.ManifoldParameter(start.clone(), manifold=PolarStiefel())
        optimizer = kind([point], lr=0.05, momentum=0.9)
        # geoopt begins its momentum with the Euclidean gradient, and ours with nothing
        if kind is geoopt.optim.RiemannianSGD:
            optimizer.state[point]["momentum_buffer"] = torch.zeros_like(point)
        for gradient in gradients:
            point.grad = gradient.clone()
            optimizer.step()
        ends.append(point.detach())
    torch.testing.assert_close(*ends)


def test_sgd_momentum_is_the_definition() -> None:
    manifold, start = PolarStiefel(), random_frame(9, 4, 0)
    gradients = torch.randn(6, 1, 9, 4, dtype=torch.float64)
    point = geoopt.ManifoldParameter(start.clone(), manifold=manifold)
    optimizer = sr.RiemannianSGD([point], lr=0.05, momentum=0.9)
    x, buffer = start.clone(), None
    for gradient in gradients:
        point.grad = gradient.clone()
        optimizer.step()
        tangent = manifold.proju(x, gradient)
        buffer = tangent if buffer is None else 0.9 * buffer + tangent
        moved = manifold.retr(x, -0.05 * buffer)
        x, buffer = moved, manifold.proju(moved, buffer)
    torch.testing.assert_close(point.detach(), x)


@pytest.mark.parametrize(("shape", "least", "most"), [((8, 3), 0.92, 0.96), ((200, 20), 0.97, 1.0)])
def test_with_moments_of_entries_the_first_step_is_shorter_by_its_normal_part(
    shape: tuple[int, int], least: float, most: float
) -> None:
    start = random_frame(*shape, 0, batch=20)
    point = geoopt.ManifoldParameter(start.clone(), manifold=PolarStiefel())
    point.grad = torch.randn(20, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    sr.RiemannianAdam([point], lr=1e-4, moment="cores").step()
    length = (point.detach() - start).square().mean().sqrt().item() / 1e-4
    assert least < length < most


@pytest.mark.parametrize("shape", [(2, 8, 3), (2, 200, 20)])
def test_matching_makes_the_first_step_as_long_as_adams(shape: tuple[int, int, int]) -> None:
    lengths = []
    start = random_frame(shape[1], shape[2], 0, batch=2)
    gradient = torch.randn(shape, dtype=torch.float64)
    for match in (True, False):
        point = geoopt.ManifoldParameter(start.clone(), manifold=PolarStiefel())
        optimizer = sr.RiemannianAdam([point], lr=1e-4, match_adam=match, moment="matrix")
        point.grad = gradient.clone()
        optimizer.step()
        lengths.append((point.detach() - start).square().mean().sqrt().item() / 1e-4)
    assert abs(lengths[0] - 1) < 0.01
    assert abs(lengths[0] / lengths[1] - (shape[1] * shape[2]) ** 0.5) < 0.01 * (shape[1] * shape[2]) ** 0.5


def test_gradients_are_left_as_they_are() -> None:
    model = sr.reparameterize(nn.Linear(8, 8), 4)
    model(torch.randn(4, 8)).square().sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    sr.RiemannianAdam(model.parameters(), weight_decay=0.1, maximize=True).step()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_maximize_ascends_along_frames() -> None:
    model = sr.reparameterize(nn.Linear(8, 8, bias=False), 4, spectrum="identity", init="orthogonal")
    target = torch.randn(8, 8)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2, maximize=True)
    values = []
    for _ in range(50):
        optimizer.zero_grad()
        value = (model.weight * target).sum()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] > values[0] + 1


@pytest.mark.parametrize("option", ["capturable", "differentiable", "stabilize"])
def test_options_that_are_not_honoured_are_refused(option: str) -> None:
    model = sr.reparameterize(nn.Linear(8, 8), 4)
    with pytest.raises(TypeError, match=option):
        sr.RiemannianAdam(model.parameters(), **{option: True})


@pytest.mark.parametrize("name", ["lr", "weight_decay", "momentum", "dampening", "eps"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_options_that_are_no_finite_numbers_are_refused(name: str, value: float) -> None:
    kind = sr.RiemannianAdam if name == "eps" else sr.RiemannianSGD
    with pytest.raises(ValueError, match=name):
        kind(sr.reparameterize(nn.Linear(8, 8), 4).parameters(), **{name: value})


def test_a_gradient_that_is_huge_in_all_is_named() -> None:
    model = sr.reparameterize(nn.Linear(64, 64, bias=False), 4)
    model.left[0].grad = torch.full_like(model.left[0], 9e14)
    with pytest.raises(ValueError, match="huge values"):
        sr.RiemannianAdam(model.parameters()).step()


def test_a_learning_rate_that_became_infinite_is_refused_before_anything_moves() -> None:
    model = sr.reparameterize(nn.Linear(8, 8), 4)
    optimizer = sr.RiemannianAdam(model.parameters())
    optimizer.param_groups[0]["lr"] = float("inf")
    model(torch.ones(8)).sum().backward()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="learning rate of parameter group 0 is inf; nothing was changed"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


# -- the gauge --------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "adam": lambda p, **o: sr.RiemannianAdam(p, lr=2e-2, moment="matrix", **o),
    "amsgrad": lambda p, **o: sr.RiemannianAdam(p, lr=2e-2, moment="matrix", amsgrad=True, **o),
    "polar": lambda p, **o: sr.RiemannianAdam(p, lr=2e-2, moment="polar", **o),
    "cores": lambda p, **o: sr.RiemannianAdam(p, lr=2e-2, moment="cores", **o),
    "sgd": lambda p, **o: sr.RiemannianSGD(p, lr=0.02, momentum=0.9, **o),
    "nesterov": lambda p, **o: sr.RiemannianSGD(p, lr=0.02, momentum=0.9, nesterov=True, **o),
    "geoopt adam": lambda p: geoopt.optim.RiemannianAdam(p, lr=5e-2),
    "geoopt sgd": lambda p: geoopt.optim.RiemannianSGD(p, lr=0.02, momentum=0.9),
}


def _fit(dtype: torch.dtype, optimizer_name: str, fix_at: tuple[int, ...], steps: int, spectrum: str, every: int = 0):
    """Least squares on a target matrix, gauge fixed before the given steps; the weight at the end."""
    torch.manual_seed(0)
    target = torch.randn(24, 36, dtype=torch.float64).to(dtype) / 8
    layer = sr.reparameterize(nn.Linear(36, 24, bias=False).to(dtype), 6, init="orthogonal", spectrum=spectrum)
    optimizer = OPTIMIZERS[optimizer_name](layer.parameters())
    if every:
        sr.register_gauge_fix(layer, optimizer, every)
    for step in range(steps):
        if step in fix_at:
            sr.gauge_fix(layer, optimizer)
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


# Not "polar": near the end it moves along directions in which the momentum is rounding errors
@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "polar"])
def test_gauge_fixing_leaves_the_whole_future_of_w_unchanged(name: str, spectrum: str) -> None:
    fixed, free = (_fit(torch.float64, name, at, 260, spectrum) for at in ((60, 100, 101), ()))
    assert float((fixed - free).abs().max()) < 1e-9
    assert float((fixed - _fit(torch.float64, name, (), 60, spectrum)).norm()) > 1e-3


@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
def test_in_float32_too_up_to_rounding(spectrum: str) -> None:
    fixed, free = (_fit(torch.float32, "adam", at, 260, spectrum) for at in ((60,), ()))
    assert float((fixed - free).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_step_hook_fixes_the_gauge_until_it_is_removed(name: str) -> None:
    torch.manual_seed(0)
    layer = sr.reparameterize(nn.Linear(36, 24), 6, init="orthogonal")
    optimizer = OPTIMIZERS[name](layer.parameters())
    handle = sr.register_gauge_fix(layer, optimizer, every=5)
    x, y = torch.randn(32, 36), torch.randn(32, 24)
    below = []
    for step in range(15):
        if step == 10:
            handle.remove()
        _train(layer, optimizer, 1, x, y)
        below.append(_largest_below_diagonal(layer))
    assert below[4] < 1e-6
    assert below[9] < 1e-6
    assert min(below[:4] + below[5:9] + below[10:]) > 1e-4
    fixed, free = (_fit(torch.float64, name, (), 100, "learned", k) for k in (7, 0))
    assert float((fixed - free).abs().max()) < 1e-9


def _largest_below_diagonal(layer: nn.Module) -> float:
    largest = 0.0
    for train, frames in ((layer.shape.left, layer.left), (layer.shape.right, layer.right)):
        for k, core in enumerate(train.cores):
            if core.reduced:
                largest = max(largest, float(frames[k].detach()[: core.inner].tril(-1).abs().max()))
    return largest


def test_gauge_fixing_refuses_an_optimizer_that_looks_at_single_entries() -> None:
    layer = sr.reparameterize(nn.Linear(36, 24), 6, init="orthogonal")
    optimizer = torch.optim.Adam(layer.parameters())
    _train(layer, optimizer, 1, torch.randn(4, 36), torch.randn(4, 24))
    with pytest.raises(ValueError, match="Adam scales the entries of a frame one by one"):
        sr.gauge_fix(layer, optimizer)


def test_gauge_fixing_every_so_many_steps_needs_a_reparameterized_model() -> None:
    dense, model = nn.Linear(3, 3), sr.reparameterize(nn.Linear(3, 3), 2)
    with pytest.raises(ValueError, match="no reparameterized layer"):
        sr.register_gauge_fix(dense, sr.RiemannianAdam(dense.parameters()))
    for every in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="every must be a whole number of steps"):
            sr.register_gauge_fix(model, sr.RiemannianSGD(model.parameters()), every)
