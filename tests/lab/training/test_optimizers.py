from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS, OptimizerRow
from sttp_riemann.lab.training.optimizers import build_optimizer, join_state, set_lr, split_state

KINDS = [
    ("adam", "riemannian", sr.RiemannianAdam),
    ("adam", "householder", torch.optim.Adam),
    ("sgd", "riemannian", sr.RiemannianSGD),
    ("sgd", "householder", torch.optim.SGD),
]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(8, 6)


def trained(model, recipe, steps=3):
    if recipe.network.method != "dense":
        sr.reparameterize(model, rank=3, frames=recipe.network.frames)
    optimizer = build_optimizer(model, recipe)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 8)).square().sum().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(("name", "frames", "kind"), KINDS)
def test_frames_that_are_points_get_a_riemannian_optimizer(name, frames, kind, tiny, model):
    recipe = tiny(optimizer=name, frames=frames, betas=[0.5, 0.9], momentum=0.3, weight_decay=0.1)
    group = build_optimizer(model, recipe).param_groups[0]
    assert type(build_optimizer(model, recipe)) is kind
    assert group["weight_decay"] == 0.1
    assert group.get("betas", (0.5, 0.9)) == (0.5, 0.9)
    assert group.get("momentum", 0.3) == 0.3


def test_a_dense_network_gets_torchs_own(tiny, model):
    assert type(build_optimizer(model, tiny(method="dense", frames="riemannian"))) is torch.optim.Adam


def test_the_learning_rate_is_set_in_every_group(model):
    optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 5}], lr=1)
    set_lr(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize(("name", "frames", "kind"), KINDS)
def test_a_state_survives_tensors_and_json(name, frames, kind, tiny, model):
    optimizer = trained(model, tiny(optimizer=name, frames=frames))
    tensors, values = split_state(optimizer)
    other = build_optimizer(model, tiny(optimizer=name, frames=frames, lr=0.9))
    join_state(other, model, {n: t.clone() for n, t in tensors.items()}, json.loads(json.dumps(values)))
    found, wanted = other.state_dict(), optimizer.state_dict()
    assert found["param_groups"] == wanted["param_groups"]
    assert found["state"].keys() == wanted["state"].keys()
    for index, entry in wanted["state"].items():
        for key, value in entry.items():
            same = torch.equal(found["state"][index][key], value) if torch.is_tensor(value) else True
            assert same, (index, key)
            assert type(found["state"][index][key]) is type(value)


@pytest.mark.parametrize("moment", ["matrix", "polar", "cores"])
def test_a_recipe_says_what_becomes_of_momentum_and_a_state_of_it_survives(moment, tiny, model):
    recipe = tiny(frames="riemannian", moment=moment, max_angle=0.3, weight_decay=0.1, decoupled_weight_decay=True)
    optimizer = trained(model, recipe, steps=12)
    group = optimizer.param_groups[0]
    assert (group["moment"], group["max_angle"], group["decoupled_weight_decay"]) == (moment, 0.3, True)
    tensors, values = split_state(optimizer)
    other = build_optimizer(model, recipe)
    join_state(other, model, {n: t.clone() for n, t in tensors.items()}, json.loads(json.dumps(values)))
    assert all(torch.equal(tensor, split_state(other)[0][name]) for name, tensor in tensors.items())
    del tensors[[name for name in tensors if name.endswith(("exp_avg_sq", "inner_gram"))][-1]]
    with pytest.raises(ValueError, match="is missing"):
        join_state(build_optimizer(model, recipe), model, tensors, values)


def test_decoupled_weight_decay_on_other_frames_is_torchs(tiny, model):
    optimizer = build_optimizer(model, tiny(frames="householder", decoupled_weight_decay=True, moment="cores"))
    assert type(optimizer) is torch.optim.AdamW


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda n: n.replace("0.", "9."), "holds the state of parameter 9, and there are 2"),
        (lambda n: n.replace("0.", "1."), "the optimizer's 'step' of weight is missing"),
    ],
)
def test_a_state_of_other_parameters_is_refused(rename, message, tiny, model):
    recipe = tiny(method="dense")
    optimizer = trained(model, recipe)
    tensors, values = split_state(optimizer)
    changed = {rename(name): tensor for name, tensor in tensors.items() if name.startswith("0.")}
    with pytest.raises(ValueError, match=message):
        join_state(build_optimizer(model, recipe), model, changed, values)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_state_that_lacks_a_tensor_is_refused(frames, tiny, model):
    recipe = tiny(optimizer="adam", frames=frames)
    tensors, values = split_state(trained(model, recipe))
    plain = next(n for n, t in tensors.items() if t.ndim == 1)
    del tensors[plain]
    with pytest.raises(ValueError, match=r"the optimizer's .* of .* is missing"):
        join_state(build_optimizer(model, recipe), model, tensors, values)


def test_a_count_of_steps_that_is_no_number_is_refused(tiny, model):
    recipe = tiny(method="dense")
    tensors, values = split_state(trained(model, recipe))
    with pytest.raises(ValueError, match=r"the optimizer's 'step' of weight is \(6, 8\), not \(\)"):
        join_state(build_optimizer(model, recipe), model, {**tensors, "0.step": torch.zeros(6, 8)}, values)


OTHER_FORMS = [torch.Tensor.double, torch.Tensor.bool, lambda t: t[..., None], lambda t: t.new_zeros(7)]


# Fused kernels write past the end of what is smaller than they expect
@pytest.mark.parametrize("change", OTHER_FORMS)
@pytest.mark.parametrize(("name", "frames", "kind"), KINDS)
def test_a_state_of_another_shape_or_type_is_refused(name, frames, kind, change, tiny, model):
    recipe = tiny(optimizer=name, frames=frames)
    tensors, values = split_state(trained(model, recipe))
    other = build_optimizer(model, recipe)
    for key, tensor in tensors.items():
        with pytest.raises(
            ValueError, match=f"the optimizer's '{key.partition('.')[2]}' of .* (has the wrong dtype|is .*, not )"
        ):
            join_state(other, model, {**tensors, key: change(tensor)}, values)
    assert tensors
    assert not other.state


@pytest.mark.parametrize(("name", "frames", "kind"), KINDS)
def test_what_no_step_has_used_needs_no_state(name, frames, kind, tiny):
    model = nn.ModuleDict({"used": nn.Linear(8, 6), "unused": nn.Linear(8, 6)})
    sr.reparameterize(model, rank=3, frames=frames)
    recipe = tiny(optimizer=name, frames=frames)
    optimizer = build_optimizer(model, recipe)
    model["used"](torch.ones(2, 8)).square().sum().backward()
    optimizer.step()
    tensors, values = split_state(optimizer)
    other = build_optimizer(model, recipe)
    join_state(other, model, tensors, values)
    assert len(other.state) == len(optimizer.state) == len(list(model["used"].parameters()))


class Counting(torch.optim.Adam):
    """Adam that keeps one more number for each parameter, and a row for each matrix."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["seen"] = parameter.detach().abs().sum()
                if parameter.ndim == 2:
                    self.state[parameter]["row"] = parameter.detach()[:1].clone()

    def state_shapes(self, parameter, group):
        row = {"row": (1, parameter.shape[1])} if parameter.ndim == 2 else {}
        return {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape, "seen": (), **row}


def test_an_optimizer_says_what_else_it_keeps_and_anything_other_is_refused(monkeypatch, tiny, model):
    monkeypatch.setitem(OPTIMIZERS, "counting", OptimizerRow(Counting, Counting, lambda section: {}))
    recipe = tiny(method="dense", optimizer="counting")
    tensors, values = split_state(trained(model, recipe))
    other = build_optimizer(model, recipe)
    join_state(other, model, tensors, json.loads(json.dumps(values)))
    assert torch.equal(other.state[model.weight]["row"], tensors["0.row"])
    for change, message in [
        ({"0.row": tensors["0.row"].new_zeros(2, 8)}, r"'row' of weight is \(2, 8\), not \(1, 8\)"),
        ({"1.row": tensors["0.row"]}, "'row' of bias, which it does not use"),
    ]:
        with pytest.raises(ValueError, match=message):
            join_state(build_optimizer(model, recipe), model, {**tensors, **change}, values)
    del tensors["1.seen"]
    with pytest.raises(ValueError, match="'seen' of bias is missing"):
        join_state(build_optimizer(model, recipe), model, tensors, values)
