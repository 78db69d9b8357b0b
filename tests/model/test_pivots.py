"""Walls of the reduced Householder chart, and rows that lead past them."""

import copy
import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import HouseholderFrames, PivotedFrames
from sttp_riemann.testing.models import disturb_, gap, layers_of, turn_, weights_of

EXACT = 1e-12
CASES = list(itertools.product(("sttp", "svdp"), ("identity", "learned", "free")))


def _network(seed: int = 0, **options: Any) -> nn.Module:
    model = nn.Sequential(nn.Linear(24, 16), nn.Conv2d(6, 8, 3)).double()
    return sr.reparameterize(model, 6, **{"frames": "householder", "init": "orthogonal", "seed": seed, **options})


def _rows(model: nn.Module) -> list[torch.Tensor]:
    return [t.clone() for name, t in model.named_buffers() if ".rows_" in name]


def _at_the_wall(seed: int = 0, **options: Any) -> nn.Module:
    """A network whose charts are about to fold."""
    model = _network(seed, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers_of(model):
            for side in (layer.left, layer.right):
                for k, core in enumerate(side.cores):
                    if core.reduced:
                        # Columns of norm 1 make the diagonal of the leading block vanish
                        entries = torch.randn(side[k].shape, dtype=torch.float64, generator=generator)
                        side[k].copy_(nn.functional.normalize(entries, dim=0) * 1.01)
    return model


@pytest.mark.parametrize(("method", "spectrum"), CASES)
def test_pivots_change_neither_w_nor_degrees_of_freedom(method: str, spectrum: str) -> None:
    options = {"method": method, "spectrum": spectrum}
    on, off = _network(**options), _network(**options, pivots=False)
    assert gap(weights_of(on), weights_of(off)) < EXACT
    assert sr.compression(on).dof == sr.compression(off).dof == sr.compression(on).stored
    assert sr.chart_margin(on) >= sr.chart_margin(off)


@pytest.mark.parametrize(("method", "spectrum"), CASES)
def test_choosing_rows_anew_keeps_w_and_widens_the_margin(method: str, spectrum: str) -> None:
    model = _at_the_wall(method=method, spectrum=spectrum)
    before, margin = weights_of(model), sr.chart_margin(model)
    sr.gauge_fix(model)
    assert gap(weights_of(model), before) < EXACT
    if margin < 0.1:
        assert sr.chart_margin(model) > 2 * margin
    state = copy.deepcopy(model.state_dict())
    sr.gauge_fix(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))


def test_the_jacobian_of_w_has_the_rank_of_the_degrees_of_freedom() -> None:
    model = sr.gauge_fix(_at_the_wall(spectrum="free"))
    layer = layers_of(model)[0]
    with torch.no_grad():
        layer.spectrum.copy_(torch.linspace(1, 2, layer.rank))
    assert any(not torch.equal(rows, rows.sort().values) for rows in _rows(layer))
    parameters = layer.factor_parameters()
    rows = [torch.autograd.grad(w, parameters, retain_graph=True) for w in layer.weight.flatten()]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    assert int(torch.linalg.matrix_rank(jacobian, rtol=1e-10)) == layer.dof


def test_frames_with_a_wide_margin_stay_as_they_are() -> None:
    model = _network()
    state = copy.deepcopy(model.state_dict())
    sr.gauge_fix(model, margin=0.9 * sr.chart_margin(model))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))


def test_without_pivots_frames_are_those_of_before() -> None:
    model = _at_the_wall(pivots=False)
    state = copy.deepcopy(model.state_dict())
    assert type(layers_of(model)[0].left) is HouseholderFrames
    assert not _rows(model)
    sr.gauge_fix(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))


@pytest.mark.parametrize("pivots", [True, False])
def test_conversion_is_exact_both_ways_and_remembers_whether_rows_are_chosen(pivots: bool) -> None:
    model = sr.gauge_fix(_at_the_wall(pivots=pivots))
    before = weights_of(model)
    there = sr.convert_frames(copy.deepcopy(model), "riemannian")
    turn_(there, 3)
    back = sr.convert_frames(copy.deepcopy(there), "householder")
    assert gap(weights_of(there), before) < EXACT
    assert gap(weights_of(back), before) < EXACT
    assert {type(layer.left) for layer in layers_of(back)} == {PivotedFrames if pivots else HouseholderFrames}


@pytest.mark.parametrize("assign", [True, False])
def test_states_carry_the_rows(assign: bool) -> None:
    model, other = sr.gauge_fix(_at_the_wall()), _network(7)
    other.load_state_dict(copy.deepcopy(model.state_dict()), assign=assign)
    assert gap(weights_of(other), weights_of(model)) == 0
    assert all(torch.equal(a, b) for a, b in zip(_rows(other), _rows(model), strict=True))


@pytest.mark.parametrize("pivots", [True, False])
def test_states_with_and_without_pivots_do_not_load_into_each_other(pivots: bool) -> None:
    with pytest.raises(RuntimeError, match=f"pivots is {pivots} here and {not pivots} in the state"):
        _network(pivots=pivots).load_state_dict(_network(pivots=not pivots).state_dict())


@pytest.mark.parametrize(("method", "spectrum"), CASES)
def test_equal_networks_become_equal_arrays(method: str, spectrum: str) -> None:
    model = _at_the_wall(method=method, spectrum=spectrum)
    twin = sr.convert_frames(copy.deepcopy(model), "riemannian")
    turn_(twin, 5)
    sr.convert_frames(twin, "householder")
    before = weights_of(model)
    if spectrum != "identity":  # distinct values, without which singular vectors are not
        for network in (model, twin):
            with torch.no_grad():
                for layer in layers_of(network):
                    layer.spectrum.copy_(torch.linspace(1, 2, layer.rank))
        before = weights_of(model)
    ours, theirs = sr.canonicalize(model), sr.canonicalize(twin)
    assert gap(weights_of(ours), before) < EXACT
    pairs = list(zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert all(torch.allclose(a.double(), b.double(), rtol=0, atol=1e-9) for a, b in pairs)


def test_adam_begins_anew_with_frames_that_other_rows_lead_and_with_no_others() -> None:
    model = _at_the_wall(spectrum="free")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)
    sum(layer.weight.square().sum() * 0.5 + layer.weight.sum() for layer in layers_of(model)).backward()
    optimizer.step()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sr.gauge_fix(model, optimizer)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    for name, p in model.named_parameters():
        if p in optimizer.state:
            assert bool(optimizer.state[p]["exp_avg"].any()) is (name not in moved)
            assert int(optimizer.state[p]["step"]) == (0 if name in moved else 1)


def test_an_average_follows_to_the_rows_of_the_network() -> None:
    model = _at_the_wall()
    average = sr.averaged(model, 0.5)
    disturb_(average.module, scale=0.01)
    before = weights_of(average.module)
    sr.gauge_fix(model, average=average)
    assert gap(weights_of(average.module), before) < 1e-10
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), average.module.buffers(), strict=True))


def test_an_average_that_was_not_handed_over_follows_at_its_next_update() -> None:
    model = _at_the_wall()
    average = sr.averaged(model, 0.999999999)
    average.update(model)
    sr.gauge_fix(model)
    before = weights_of(average.module)
    average.update(model)
    assert gap(weights_of(average.module), before) < 1e-6
    assert sr.orthogonality_error(average.module) < EXACT


def test_the_margin_of_riemannian_frames_is_that_of_the_chart_they_would_have() -> None:
    for pivots in (True, False):
        model = _network(pivots=pivots)
        there = sr.convert_frames(copy.deepcopy(model), "riemannian")
        assert sr.chart_margin(there) == pytest.approx(sr.chart_margin(model), abs=1e-10)


def _fit(
    frames: str, method: str, spectrum: str, targets: int, steps: int, size: tuple[int, int], pivots: bool = True
) -> list[float]:
    """Relative losses at the end of fitting weights that are exactly representable, each by a layer of its own."""
    layers, teachers = (nn.ModuleList(nn.Linear(*size, bias=False).double() for _ in range(targets)) for _ in "12")
    options: dict[str, Any] = {"rank": 8, "method": method, "spectrum": spectrum}
    sr.reparameterize(teachers, seed=1, **options)
    sr.reparameterize(layers, frames=frames, seed=0, pivots=pivots, **options)
    wanted = [teacher.weight.detach() for teacher in teachers]
    make: Any = sr.RiemannianAdam if frames == "riemannian" else torch.optim.Adam
    optimizer = make(layers.parameters(), lr=0.03)
    sr.register_gauge_fix(layers, optimizer, every=20)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        with sr.cached(layers):
            losses = [(own.weight - w).square().sum() / w.square().sum() for own, w in zip(layers, wanted, strict=True)]
            optimizer.zero_grad()
            sum(losses).backward()
        optimizer.step()
    return [float(loss.detach()) for loss in losses]


def test_fits_that_are_stuck_at_walls_get_past_them_with_other_rows() -> None:
    fit = partial(_fit, "householder", "svdp", "identity", 1, 400, (32, 24))
    assert min(fit(pivots=False)) > 1e-3
    assert max(fit(pivots=True)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("frames", ["householder", "riemannian"])
@pytest.mark.parametrize(("method", "spectrum"), itertools.product(("sttp", "svdp"), ("identity", "learned")))
def test_what_layers_can_represent_is_reached_by_all_of_twenty(method: str, spectrum: str, frames: str) -> None:
    losses = _fit(frames, method, spectrum, 20, 4000, (64, 96))
    assert max(losses) < 1e-8, losses


def test_gradients_of_frames_whose_rows_are_chosen_anew_are_dropped() -> None:
    model = _at_the_wall()
    sum((layer.weight - 1).square().sum() for layer in layers_of(model)).backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
    sr.gauge_fix(model)
    after = {name: p for name, p in model.named_parameters() if name in before}
    turned = {name for name, p in after.items() if not torch.equal(p, before[name])}
    assert 0 < len(turned) < len(before)
    assert {name for name, p in after.items() if p.grad is None} == turned
