"""The optimizer of a recipe, and its state as tensors and plain values."""

from __future__ import annotations

import json
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.optim.moments import moment_of

# What `split_state` returns besides tensors
_VALUES = {"scalars": Each(float), "without": [int], "groups": [{"params": [int], "lr": float}]}


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Optimizer for a model: the Riemannian one where frames are points of a manifold, torch's own otherwise."""
    row = OPTIMIZERS[recipe.optimizer.name]
    options = {"lr": recipe.optimizer.lr, **row.options(recipe.optimizer)}
    if recipe.network.riemannian:
        return row.riemannian(model.parameters(), **options, **row.frame_options(recipe.optimizer))
    return row.plain(model.parameters(), **options, **row.plain_options)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def split_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of an optimizer as tensors named ``INDEX.KEY``, and the rest as values that JSON can hold."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            # A missing entry is None
            if value is not None:
                (tensors if isinstance(value, Tensor) else scalars)[f"{index}.{key}"] = value
    # Before its first step, a parameter has no state
    kept = {name.partition(".")[0] for name in (*tensors, *scalars)}
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    without = [index for index in range(count) if str(index) not in kept]
    return tensors, {"scalars": scalars, "without": without, "groups": _groups(optimizer)}


def join_state(optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Load the result of `split_state` into an optimizer over a model's parameters.

    Raises
    ------
    ValueError
        The state belongs to other parameters, other options than the learning rate differ, or an entry is missing or
        left over; the message names it.
    """
    check_form(values, _VALUES)
    named = [(name, parameter) for name, parameter in model.named_parameters()]
    entries: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *values["scalars"].items()]:
        index, _, key = name.partition(".")
        if index not in map(str, range(len(named))):
            raise ValueError(f"it holds the state of parameter {index}, and there are {len(named)}")
        entries.setdefault(int(index), {})[key] = value
    groups = [group for group in optimizer.param_groups for _ in group["params"]]
    for index, ((name, parameter), group) in enumerate(zip(named, groups, strict=True)):
        wanted = {} if index in values["without"] else _wanted(optimizer, parameter, group)
        _check_entry(name, parameter.dtype, entries.get(index, {}), wanted)
    groups = [{**group} for group in optimizer.state_dict()["param_groups"]]
    for group, now, saved in zip(groups, _groups(optimizer), values["groups"], strict=True):
        # As text, for JSON has no tuples, and Adam's betas are one
        other = [key for key in now if key != "lr" and json.dumps(now[key]) != json.dumps(saved.get(key))]
        if other:
            raise ValueError(f"{other[0]!r} was {saved.get(other[0])!r} and is {now[other[0]]!r}")
        group["lr"] = saved["lr"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    groups = optimizer.state_dict()["param_groups"]
    return [{key: _plain(value) for key, value in group.items()} for group in groups]


def _wanted(optimizer: Optimizer, parameter: Tensor, group: dict[str, Any]) -> dict[str, torch.Size]:
    """Shapes of a parameter's state after its first step: as Adam and SGD have them, or as the optimizer says."""
    own = getattr(optimizer, "state_shapes", None)
    if own is not None:
        return {name: torch.Size(shape) for name, shape in own(parameter, group).items()}
    frame = isinstance(parameter, geoopt.ManifoldParameter)
    whole, number = parameter.shape, torch.Size()
    if "betas" in group:
        manifold = getattr(parameter, "manifold", None)
        others = moment_of(group, manifold).shapes(whole, manifold) if frame else {"exp_avg_sq": whole}
        return {"step": number, "exp_avg": whole, **{name: torch.Size(shape) for name, shape in others.items()}}
    momentum = {"momentum_buffer": whole} if group["momentum"] else {}
    return {"step": number, **momentum} if frame else momentum


def _check_entry(name: str, dtype: torch.dtype, entry: dict[str, Any], wanted: dict[str, torch.Size]) -> None:
    for key in wanted:
        if key not in entry:
            raise ValueError(f"the optimizer's {key!r} of {name} is missing")
    for key, value in entry.items():
        if key not in wanted:
            raise ValueError(f"the optimizer has {key!r} of {name}, which it does not use")
        if isinstance(value, Tensor) and value.dtype != (torch.float32 if key == "step" else dtype):
            raise ValueError(f"the optimizer's {key!r} of {name} has the wrong dtype, {value.dtype}")
        # Fused steps write past the end of tensors that are too small
        shape = value.shape if isinstance(value, Tensor) else torch.Size()
        if shape != wanted[key]:
            raise ValueError(f"the optimizer's {key!r} of {name} is {tuple(shape)}, not {tuple(wanted[key])}")
        if key == "step" and not (value >= 1 and float(value).is_integer()):
            raise ValueError(f"the optimizer's {key!r} of {name} is {float(value)}, not a count of steps")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
