"""The optimizer that a recipe asks for, and its state as tensors and plain values."""

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

# What `split_state` gives beside tensors
_VALUES = {"scalars": Each(float), "groups": [{"params": [int], "lr": float}]}


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Optimizer for a model: the Riemannian one where frames are points of a manifold, torch's own otherwise."""
    row = OPTIMIZERS[recipe.optimizer]
    options = {"lr": recipe.lr, **row.options(recipe)}
    if recipe.riemannian:
        return row.riemannian(model.parameters(), **options)
    return row.plain(model.parameters(), **options, **row.plain_options)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Take steps with this learning rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def split_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of an optimizer as tensors named ``INDEX.KEY``, and the rest as values that JSON can hold."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            # An entry that is not there is none
            if value is not None:
                (tensors if isinstance(value, Tensor) else scalars)[f"{index}.{key}"] = value
    return tensors, {"scalars": scalars, "groups": _groups(optimizer)}


def join_state(optimizer: Optimizer, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Load into an optimizer what `split_state` gave.

    Raises
    ------
    ValueError
        The state is of an optimizer over other parameters or with other options than the learning rate.
    """
    check_form(values, _VALUES)
    entries: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **values["scalars"]}.items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = value
    _check_entries(entries, [p for group in optimizer.param_groups for p in group["params"]])
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


def _check_entries(entries: dict[int, dict[str, Any]], parameters: list[Tensor]) -> None:
    kinds: dict[bool, set[str]] = {}
    for index, entry in entries.items():
        if not 0 <= index < len(parameters):
            raise ValueError(f"it holds the state of parameter {index}, and there are {len(parameters)}")
        parameter = parameters[index]
        # Frames have a state of their own, and plain parameters have torch's
        usual = kinds.setdefault(isinstance(parameter, geoopt.ManifoldParameter), set(entry))
        if usual != entry.keys():
            name = min(usual ^ entry.keys())
            raise ValueError(f"{name!r} is there for some of its parameters, and not for others such as {index}")
        for key, value in entry.items():
            wanted = torch.Size() if key == "step" else parameter.shape
            if isinstance(value, Tensor) and not _fits(value.shape, wanted):
                raise ValueError(f"{key!r} of parameter {index} is {tuple(value.shape)}, and that is {tuple(wanted)}")


def _fits(shape: torch.Size, wanted: torch.Size) -> bool:
    """Whether it broadcasts: some states are kept once a matrix, or once a parameter."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(a in (1, b) for a, b in pairs)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
