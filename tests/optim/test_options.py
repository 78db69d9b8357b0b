"""Options of both optimizers that are refused, and states that do not fit them."""

from __future__ import annotations

import copy
from typing import Any

import geoopt
import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.optim import arguments


def _model() -> nn.Module:
    return sr.reparameterize(nn.Linear(36, 24), 6, init="orthogonal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moment": "entries"}, "unknown moment 'entries'; choose one of 'matrix', 'polar', 'cores'"),
        ({"moment": 1}, "unknown moment 1"),
        ({"max_angle": 0.0}, "max_angle must be an angle in radians above 0 and below pi / 2, or None, got 0.0"),
        ({"max_angle": 1.6}, "max_angle must be an angle in radians"),
        ({"max_angle": float("nan")}, "max_angle must be an angle in radians"),
        ({"max_angle": "0.1"}, "max_angle must be an angle in radians"),
        ({"decoupled_weight_decay": 1}, "decoupled_weight_decay must be True or False"),
        ({"fused": 1}, "fused must be True or False"),
        ({"foreach": True, "fused": True}, "foreach and fused are two ways to do one thing"),
    ],
)
def test_options_out_of_range_are_refused_for_all_and_for_one_group(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sr.RiemannianAdam(_model().parameters(), **options)
    with pytest.raises(ValueError, match=message):
        sr.RiemannianAdam([{"params": _model().parameters(), **options}])
    optimizer = sr.RiemannianAdam(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": _model().parameters(), **options})
    assert len(optimizer.param_groups) == 1


def test_sgd_refuses_angles_out_of_range() -> None:
    with pytest.raises(ValueError, match="max_angle must be an angle in radians"):
        sr.RiemannianSGD(_model().parameters(), max_angle=-1.0)


@pytest.mark.parametrize("options", [{"moment": "cores"}, {"moment": "polar"}, {"max_angle": 0.1}])
def test_points_of_other_manifolds_need_a_group_without_what_is_for_frames(options: dict[str, Any]) -> None:
    point = geoopt.ManifoldParameter(torch.eye(3)[0], manifold=geoopt.Sphere())
    with pytest.raises(ValueError, match="is for frames on PolarStiefel, and a point is on Sphere"):
        sr.RiemannianAdam([point], **options)
    model = _model()
    optimizer = sr.RiemannianAdam(model.parameters(), lr=0.1, **options)
    with pytest.raises(ValueError, match="is for frames on PolarStiefel, and a point is on Sphere"):
        optimizer.add_param_group({"params": [point]})
    optimizer.add_param_group({"params": [point], "moment": None, "max_angle": None})
    point.grad = torch.ones(3)
    optimizer.step()
    assert float(point.detach().norm()) == pytest.approx(1)
    assert float((point.detach() - torch.eye(3)[0]).norm()) > 0.05


def test_groups_may_have_moments_of_their_own() -> None:
    model = _model()
    frames = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    groups = [{"params": frames[:1], "moment": "cores"}, {"params": frames[1:]}]
    optimizer = sr.RiemannianAdam(groups, moment="polar")
    model(torch.ones(36)).square().sum().backward()
    optimizer.step()
    assert ["inner_gram" in optimizer.state[p] for p in frames] == [True] + [False] * (len(frames) - 1)


def test_frames_have_the_cores_moment_and_points_of_other_manifolds_one_number_where_none_is_named() -> None:
    model = _model()
    point = geoopt.ManifoldParameter(torch.eye(3)[0], manifold=geoopt.Sphere())
    frames = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    optimizer = sr.RiemannianAdam([point, *model.parameters()])
    (model(torch.ones(36)).square().sum() + point[1]).backward()
    optimizer.step()
    assert all("inner_gram" in optimizer.state[p] for p in frames)
    assert optimizer.state[point].keys() == {"step", "exp_avg", "exp_avg_sq"}


def _stepped(model: nn.Module, moment: str | None) -> sr.RiemannianAdam:
    optimizer = sr.RiemannianAdam(model.parameters(), moment=moment)
    model(torch.ones(36)).square().sum().backward()
    optimizer.step()
    return optimizer


def test_a_state_says_which_moment_it_is_of() -> None:
    model = _model()
    state = copy.deepcopy(_stepped(model, "cores").state_dict())
    other = sr.RiemannianAdam(model.parameters())
    other.load_state_dict(state)
    assert other.param_groups[0]["moment"] == "cores"


@pytest.mark.parametrize(("first", "then"), [("matrix", "cores"), ("cores", "polar")])
def test_a_moment_that_changes_in_training_is_refused_before_anything_moves(first: str, then: str) -> None:
    model = _model()
    optimizer = _stepped(model, first)
    optimizer.param_groups[0]["moment"] = then
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=f"moment '{then}' has no use for .* make the optimizer anew"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("inner_gram"), "has no 'inner_gram'"),
        (lambda entry: entry.update(inner_basis=torch.zeros(2, 2)), "has a 'inner_basis' that does not fit"),
        (lambda entry: entry.update(exp_avg_sq=torch.zeros(1, 1)), "has a 'exp_avg_sq' that does not fit"),
    ],
)
def test_a_state_that_does_not_fit_its_moment_is_refused(change: Any, message: str) -> None:
    model = _model()
    optimizer = _stepped(model, "cores")
    state = copy.deepcopy(optimizer.state_dict())
    change(next(entry for entry in state["state"].values() if "inner_gram" in entry))
    before = copy.deepcopy(optimizer.state_dict()["param_groups"])
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict()["param_groups"] == before


def test_a_state_of_a_release_without_these_options_loads_as_the_one_moment_it_had() -> None:
    model = _model()
    state = copy.deepcopy(_stepped(model, "matrix").state_dict())
    for group in state["param_groups"]:
        for name in ("moment", "max_angle", "decoupled_weight_decay"):
            del group[name]
    other = sr.RiemannianAdam(model.parameters())
    other.load_state_dict(state)
    assert other.param_groups[0]["moment"] == "matrix"
    model(torch.ones(36)).square().sum().backward()
    other.step()
    with pytest.raises(ValueError, match="has no 'outer_gram'"):
        sr.RiemannianAdam(model.parameters(), moment="cores").load_state_dict(state)


def test_an_older_torch_is_named_where_it_cannot_decouple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_DECOUPLES", False)
    with pytest.raises(ValueError, match="needs a newer torch"):
        sr.RiemannianAdam(_model().parameters(), decoupled_weight_decay=True)
    sr.RiemannianAdam(_model().parameters())
