"""Checks of what optimizers are given: parameters, options of groups, and states."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import geoopt
import torch
from torch import Tensor

from sttp_riemann.checks import check_choice, check_flag, check_number, is_iterable, is_number, shown
from sttp_riemann.frames import PolarStiefel
from sttp_riemann.optim.moments import MOMENTS

NUMBERS = ("lr", "eps", "weight_decay", "momentum")
FLAGS = ("amsgrad", "maximize", "nesterov", "match_adam", "decoupled_weight_decay")
OURS = (*FLAGS, "stabilize", "foreach", "fused", "moment", "max_angle")
"""Options that the groups of older releases, or of torch, may lack."""
PER_ENTRY = ("exp_avg", "momentum_buffer")
PER_MATRIX = ("exp_avg_sq", "max_exp_avg_sq")


_ANGLE = "an angle in radians above 0 and below pi / 2, or None"
_DECOUPLES = "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters


class CheckedGroups:
    """Base class that refuses parameter groups and states with which no step could be taken."""

    needed: ClassVar[tuple[str, ...]]
    """State entries of every parameter that was stepped."""
    defaults: dict[str, Any]
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as in torch.

        Parameters
        ----------
        param_group : dict
            ``params``, and options other than the optimizer's own.

        Raises
        ------
        TypeError
            It is not a dict, or its ``params`` are not parameters.
        ValueError
            An option is out of range, a parameter already has a group, or there are no parameters.
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
        # torch modifies the dict before checking all of it, and keeps the given one
        check_points({**self.defaults, **group})
        super().add_param_group(group)  # type: ignore[misc]
        param_group.update(group)
        self.param_groups[-1] = param_group

    def _complete(self, options: dict[str, Any]) -> None:
        """Add options that torch's class does not know to the defaults and to all groups without them."""
        self.defaults.update(options)
        for group in self.param_groups:
            # Torch's class knows this one, was not given it, and has put None
            if group.get("fused") is None:
                group.pop("fused", None)
            group.update({**options, **group})
            check_points(group)

    def _shapes(self, frame: geoopt.ManifoldParameter, group: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of what it keeps for a frame, where they are not those of the frame."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, as in torch.

        Parameters
        ----------
        state_dict : dict
            As `state_dict` returned it.

        Raises
        ------
        TypeError
            It is not a dict.
        ValueError
            It is not a state of this kind of optimizer with these parameters. Nothing has changed then.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict must be a dict, got {shown(state_dict)}")
        # Runs last, as earlier hooks may repair the state
        handle = self.register_load_state_dict_pre_hook(_check_state)  # type: ignore[attr-defined]
        try:
            super().load_state_dict(state_dict)  # type: ignore[misc]
        finally:
            handle.remove()


def check_points(group: Mapping[str, Any]) -> None:
    """Refuse points of manifolds on which the options of their group have no meaning.

    Parameters
    ----------
    group : mapping
        ``params`` and options.

    Raises
    ------
    ValueError
        A point is not on `PolarStiefel`, and an option is for frames there.
    """
    moment = group.get("moment")
    option = f"moment {moment!r}" if moment is not None and not MOMENTS[moment].anywhere else "max_angle"
    if option == "max_angle" and group.get("max_angle") is None:
        return
    for own in group["params"]:
        point = own[1] if isinstance(own, tuple) else own
        if isinstance(point, geoopt.ManifoldParameter) and not isinstance(point.manifold, PolarStiefel):
            raise ValueError(
                f"{option} is for frames on PolarStiefel, and a point is on {point.manifold.name}: give it a parameter "
                "group of its own, with moment=None and max_angle=None"
            )


def as_parameters(params: Any) -> Any:
    """Parameters of one group, as torch accepts them.

    Parameters
    ----------
    params : Tensor or iterable
        Tensors, or pairs of a name and a tensor.

    Returns
    -------
    list
        The same as a list; a set is returned unchanged, as torch refuses it with its own message.

    Raises
    ------
    TypeError
        They are not parameters.
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
    """The `params` argument of an optimizer: parameters, or groups of them.

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
        It is not an iterable of tensors.
    ValueError
        It is empty.
    """
    if isinstance(params, Tensor) or not is_iterable(params):
        raise TypeError(f"params must be an iterable of parameters or of groups of them, got {shown(params)}")
    return list(params)


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an optimizer or of one of its groups, as Python numbers.

    Parameters
    ----------
    given : mapping
        By name; entries that are not options are ignored.

    Returns
    -------
    dict
        The options among them.

    Raises
    ------
    ValueError
        An option has the wrong type or is out of range; the message names it.
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
        elif name in ("foreach", "fused"):
            found[name] = None if value is None else check_flag(name, value)
        elif name == "max_angle":
            found[name] = None if value is None else check_number(name, value, _ANGLE, math.ulp(0), below=math.pi / 2)
        elif name == "moment":
            if value is not None:
                check_choice(name, value, tuple(MOMENTS))
            found[name] = value
    if found.get("foreach") and found.get("fused"):
        raise ValueError("foreach and fused are two ways to do one thing: set at most one of them")
    if found.get("decoupled_weight_decay") and not _DECOUPLES:
        raise ValueError("decoupled_weight_decay needs a newer torch, whose Adam has that option")
    return found


def _rate(value: Tensor) -> Tensor:
    """A learning rate kept as a tensor, for graphs or schedulers."""
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
    """Hook before loading a state: refuse it, or add options to its groups that older releases lacked."""
    saved, state = state_dict.get("param_groups"), state_dict.get("state")
    groups = optimizer.param_groups
    if not isinstance(saved, list) or not isinstance(state, Mapping) or len(saved) != len(groups):
        raise ValueError(
            f"state_dict must have a mapping 'state' and a list 'param_groups' of {len(groups)} groups, like this "
            "optimizer"
        )
    found: dict[Any, tuple[Tensor, dict[str, tuple[int, ...]]]] = {}
    for number, (group, own) in enumerate(zip(saved, groups, strict=True)):
        params = group.get("params") if isinstance(group, dict) else None
        if not isinstance(params, list) or len(params) != len(own["params"]) or not all(map(_is_key, params)):
            raise ValueError(
                f"parameter group {number} of state_dict must have a list 'params' of {len(own['params'])} parameter "
                "indices, like this optimizer"
            )
        missing = [name for name in (*NUMBERS, "betas", "dampening") if name in own and name not in group]
        if missing:
            raise ValueError(f"parameter group {number} of state_dict has no {missing[0]!r}: is it of this optimizer?")
        try:
            checked_options(group)
            check_points({**_completed(group, own), "params": own["params"]})
        except ValueError as error:
            raise ValueError(f"parameter group {number} of state_dict: {error}") from error
        whole = _completed(group, own)
        shapes = [optimizer._shapes(p, whole) if isinstance(p, geoopt.ManifoldParameter) else {} for p in own["params"]]
        found.update(zip(params, zip(own["params"], shapes, strict=True), strict=True))
    for key, kept in state.items():
        if key in found and (fault := _fault(*found[key], kept, optimizer.needed)):
            raise ValueError(f"the state of parameter {shown(key)} in state_dict {fault}: is it of this optimizer?")
    completed = [_completed(group, own, OURS) for group, own in zip(saved, groups, strict=True)]
    return {**state_dict, "param_groups": completed}


def _completed(group: dict[str, Any], own: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """A saved group with the optimizer's own options, or the named ones of them, where it has none."""
    found = {name: own[name] for name in (own if names is None else names) if name in own}
    if "moment" in found and found["moment"] is None:
        # A state that does not say has one second moment a matrix: of geoopt, or of a release without the option
        found["moment"] = "matrix"
    return {**found, **group}


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str)


def _fault(parameter: Tensor, own: dict[str, tuple[int, ...]], kept: Any, needed: tuple[str, ...]) -> str | None:
    """The fault in the state of a parameter, if any."""
    if not isinstance(kept, Mapping):
        return f"is {shown(kept)}, not a dict"
    missing = [name for name in (*needed, *own) if name not in kept] if kept else []
    if missing:
        return f"has no {missing[0]!r}"
    if "step" in kept and not _is_age(kept["step"]):
        return f"has a step that is not a whole number: {shown(kept['step'])}"
    frame = isinstance(parameter, geoopt.ManifoldParameter)
    whole, single = tuple(parameter.shape), (*parameter.shape[:-2], 1, 1)
    for name, value in kept.items():
        fitting = [whole] if name in PER_ENTRY or not frame else [whole, single]
        # geoopt repeats one number a matrix in every entry
        if own.get(name, single) != single:
            fitting = [own[name]]
        if name not in (*PER_ENTRY, *PER_MATRIX, *own) or (name == "momentum_buffer" and value is None):
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) not in fitting:
            return f"has a {name!r} that does not fit its shape {whole}: {shown(value)}"
    return None


def _is_age(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and value.device.type != "meta" and _is_age(value.item())
    return is_number(value) and 0 <= value < 2**63 and value == int(value)
