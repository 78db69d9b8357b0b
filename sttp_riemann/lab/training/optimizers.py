"""The optimizer that a recipe asks for, and its state as tensors and plain values."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import sttp_riemann as sr
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.training.recipe import Recipe

# What `split_state` gives beside tensors
_VALUES = {"scalars": Each(float), "groups": [{"params": [int], "lr": float}]}


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Optimizer for a model: the Riemannian one where frames are points of a manifold, torch's own otherwise."""
    options: dict[str, Any] = {"weight_decay": recipe.weight_decay, **({} if recipe.riemannian else {"fused": True})}
    if recipe.optimizer == "adam":
        adam = sr.RiemannianAdam if recipe.riemannian else torch.optim.Adam
        betas = (recipe.betas[0], recipe.betas[1])
        return adam(model.parameters(), lr=recipe.lr, betas=betas, **options)
    sgd = sr.RiemannianSGD if recipe.riemannian else torch.optim.SGD
    return sgd(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, **options)


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
    _check_entries(entries, _usual_state(optimizer))
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


def _usual_state(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Give the state that an optimizer of this kind has of these parameters after a step."""
    groups = [{**group, "params": copy.deepcopy(group["params"])} for group in optimizer.param_groups]
    for p in (p for group in groups for p in group["params"]):
        p.grad = torch.zeros_like(p)
    twin = type(optimizer)(groups, lr=0.0)  # type: ignore[call-arg]
    twin.step()
    found: dict[int, dict[str, Any]] = twin.state_dict()["state"]
    return found


def _check_entries(entries: dict[int, dict[str, Any]], usual: dict[int, dict[str, Any]]) -> None:
    """Refuse what is not of the usual form: fused kernels trust it, and write where there is no memory of theirs."""
    for index, entry in entries.items():
        if index not in usual:
            raise ValueError(f"it holds the state of parameter {index}, and there are {len(usual)}")
        wanted = {key: _form(value) for key, value in usual[index].items() if value is not None}
        if wanted.keys() != entry.keys():
            name = min(wanted.keys() ^ entry.keys())
            raise ValueError(f"{name!r} of parameter {index} is {'missing' if name in wanted else 'not of its kind'}")
        for key, form in wanted.items():
            if _form(entry[key]) != form:
                raise ValueError(f"{key!r} of parameter {index} is {_form(entry[key])}, and not {form}")


def _form(value: Any) -> str:
    return (
        f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if isinstance(value, Tensor)
        else type(value).__name__
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
