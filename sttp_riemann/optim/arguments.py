"""What optimizers are given: parameters, options of groups, states, checked before anything is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

import geoopt
import torch
from torch import Tensor

from sttp_riemann.checks import check_flag, check_number, is_iterable, is_number, shown

NUMBERS = ("lr", "eps", "weight_decay", "momentum")
FLAGS = ("amsgrad", "maximize", "nesterov", "match_adam")
PER_ENTRY = ("exp_avg", "momentum_buffer")
PER_MATRIX = ("exp_avg_sq", "max_exp_avg_sq")


class CheckedGroups:
    """Groups and states of an optimizer, refused where no step could be taken with them."""

    needed: ClassVar[tuple[str, ...]]
    """What is kept for every parameter that was stepped."""
    defaults: dict[str, Any]
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Step more parameters from now on, as torch's optimizers take them.

        Parameters
        ----------
        param_group : dict
            ``params``, and options other than the optimizer's own.

        Raises
        ------
        TypeError
            It is no dict, or its ``params`` are no parameters.
        ValueError
            An option is out of range, a parameter has a group already, or there are none.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {shown(param_group)}")
        if "params" not in param_group:
            raise ValueError("param_group has no 'params', the parameters to step")
        params = as_parameters(param_group["params"])
        try:
            options = checked_options(param_group)
        except ValueError as error:
            raise ValueError(f"in the parameter group, {error}") from error
        group = {**param_group, **options, "params": params}
        # Torch changes a dict before it has looked at all of it, and keeps the one that it was given
        super().add_param_group(group)  # type: ignore[misc]
        param_group.update(group)
        self.param_groups[-1] = param_group

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, as torch's optimizers do.

        Parameters
        ----------
        state_dict : dict
            As `state_dict` gave it.

        Raises
        ------
        TypeError
            It is no dict.
        ValueError
            It is no state of such an optimizer over such parameters. Nothing has changed then.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict must be a dict, got {shown(state_dict)}")
        # The last of the hooks, as those before it may mend the state
        handle = self.register_load_state_dict_pre_hook(_check_state)  # type: ignore[attr-defined]
        try:
            super().load_state_dict(state_dict)  # type: ignore[misc]
        finally:
            handle.remove()


def as_parameters(params: Any) -> Any:
    """Parameters of one group, as torch takes them.

    Parameters
    ----------
    params : Tensor or iterable
        Of tensors, or of pairs of a name and a tensor.

    Returns
    -------
    list
        The same in a list; a set, which torch refuses in its own words, as it is.

    Raises
    ------
    TypeError
        They are none.
    """
    if isinstance(params, Tensor):
        return [params]
    if isinstance(params, set):
        return params
    found = as_list(params)
    for own in found:
        named = isinstance(own, tuple) and len(own) == 2 and isinstance(own[0], str) and isinstance(own[1], Tensor)
        if not isinstance(own, Tensor) and not named:
            raise TypeError(f"params must be tensors, or pairs of a name and a tensor; one of them is {shown(own)}")
    return found


def as_list(params: Any) -> list[Any]:
    """What optimizers are made with: parameters, or groups.

    Parameters
    ----------
    params : iterable
        Read once.

    Returns
    -------
    list

    Raises
    ------
    TypeError
        It is no iterable of tensors.
    ValueError
        It is empty.
    """
    if isinstance(params, Tensor) or not is_iterable(params):
        raise TypeError(f"params must be an iterable of parameters or of groups of them, got {shown(params)}")
    return list(params)


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an optimizer or of one of its groups, as numbers of Python.

    Parameters
    ----------
    given : mapping
        By name; others than options are passed over.

    Returns
    -------
    dict
        Those that are options.

    Raises
    ------
    ValueError
        One is of a wrong kind or out of range; the message names it.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name == "lr" and isinstance(value, Tensor):
            found[name] = _rate(value)
        elif name in NUMBERS:
            found[name] = check_number(name, value, "a finite number of at least 0", least=0)
        elif name == "dampening":
            found[name] = check_number(name, value, "a finite number")
        elif name == "betas":
            found[name] = _betas(value)
        elif name in FLAGS:
            found[name] = check_flag(name, value)
        elif name == "foreach":
            found[name] = None if value is None else check_flag(name, value)
    return found


def _rate(value: Tensor) -> Tensor:
    """A learning rate that graphs or schedulers hold as a tensor."""
    readable = value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool
    if (
        not readable
        or value.device.type == "meta"
        or value.layout != torch.strided
        or not 0 <= float(value) < torch.inf
    ):
        raise ValueError(f"lr must be a finite number of at least 0, got {shown(value)}")
    return value


def _betas(value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"betas must be a pair of numbers from 0 to below 1, got {shown(value)}")
    first, second = (check_number("each of betas", v, "a number from 0 to below 1", least=0, below=1) for v in value)
    return first, second


def _check_state(optimizer: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Hook before a state is loaded: refuse it, or complete its groups by options that older releases had not."""
    saved, state = state_dict.get("param_groups"), state_dict.get("state")
    groups = optimizer.param_groups
    if not isinstance(saved, list) or not isinstance(state, Mapping) or len(saved) != len(groups):
        raise ValueError(
            f"state_dict must have a mapping 'state' and a list 'param_groups' of {len(groups)} groups, as this "
            "optimizer's own"
        )
    found: dict[Any, Tensor] = {}
    for number, (group, own) in enumerate(zip(saved, groups, strict=True)):
        params = group.get("params") if isinstance(group, dict) else None
        if not isinstance(params, list) or len(params) != len(own["params"]) or not all(map(_is_key, params)):
            raise ValueError(
                f"parameter group {number} of state_dict must have a list 'params' of {len(own['params'])} numbers of "
                "parameters, as this optimizer's has"
            )
        missing = [name for name in (*NUMBERS, "betas", "dampening") if name in own and name not in group]
        if missing:
            raise ValueError(f"parameter group {number} of state_dict has no {missing[0]!r}: is it of this optimizer?")
        try:
            checked_options(group)
        except ValueError as error:
            raise ValueError(f"parameter group {number} of state_dict: {error}") from error
        found.update(zip(params, own["params"], strict=True))
    for key, kept in state.items():
        if key in found and (fault := _fault(found[key], kept, optimizer.needed)):
            raise ValueError(f"the state of parameter {shown(key)} in state_dict {fault}: is it of this optimizer?")
    kept_flags = ("stabilize", "foreach", *FLAGS)
    completed = [
        {**{name: own[name] for name in kept_flags if name in own}, **group}
        for group, own in zip(saved, groups, strict=True)
    ]
    return {**state_dict, "param_groups": completed}


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str)


def _fault(parameter: Tensor, kept: Any, needed: tuple[str, ...]) -> str | None:
    """What is wrong with what is kept for a parameter."""
    if not isinstance(kept, Mapping):
        return f"is {shown(kept)}, not a dict"
    missing = [name for name in needed if name not in kept] if kept else []
    if missing:
        return f"has no {missing[0]!r}"
    if "step" in kept and not _is_age(kept["step"]):
        return f"has a step that is no whole number: {shown(kept['step'])}"
    frame = isinstance(parameter, geoopt.ManifoldParameter)
    whole, single = tuple(parameter.shape), (*parameter.shape[:-2], 1, 1)
    for name, value in kept.items():
        fitting = (whole,) if name in PER_ENTRY or not frame else (whole, single)
        if name not in (*PER_ENTRY, *PER_MATRIX) or (name == "momentum_buffer" and value is None):
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) not in fitting:
            return f"has a {name!r} that does not fit its shape {whole}: {shown(value)}"
    return None


def _is_age(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and value.device.type != "meta" and _is_age(value.item())
    return is_number(value) and 0 <= value < 2**63 and value == int(value)
