"""Refuse gradients with which no step can be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST = 1e15
"""Largest norm of a gradient whose square is safely finite in float32."""


class GradientError(ValueError):
    """A gradient that holds NaN, infinite or huge values.

    Parameters
    ----------
    parameter : Tensor
        The parameter.
    name : str
        Its name in the message.
    late : bool
        Whether it is that of a step before.

    Attributes
    ----------
    parameter : Tensor
        As given.
    """

    def __init__(self, parameter: Tensor, name: str, late: bool = False) -> None:
        self.parameter = parameter
        where, changed = ("", "nothing was changed: leave this step out")
        if late:
            where, changed = " in the step before", "neither step has changed anything: go on"
        super().__init__(
            f"the gradient of parameter {name}{where} holds NaN, infinite or huge values; {changed}, or lower the "
            "learning rate"
        )


class Place(NamedTuple):
    """Where a parameter is: number of its group, place in it."""

    group: int
    place: int
    parameter: Tensor


def check_gradients(param_groups: Sequence[dict[str, Any]]) -> None:
    """Refuse gradients that are not finite, or beyond 1e15.

    Parameters
    ----------
    param_groups : sequence of dict
        Parameter groups of any optimizer.

    Raises
    ------
    GradientError
        The message names the first such parameter, by its name if the optimizer has names.
    """
    places, gradients = gradients_of(param_groups)
    if all_small(gradients):
        return
    for place, gradient in zip(places, gradients, strict=True):
        if not all_small([gradient]):
            raise GradientError(place.parameter, name_of(place, param_groups))


def gradients_of(param_groups: Sequence[dict[str, Any]]) -> tuple[list[Place], list[Tensor]]:
    """All gradients in order, and where their parameters are."""
    places = [
        Place(number, place, parameter)
        for number, group in enumerate(param_groups)
        for place, parameter in enumerate(group["params"])
        if parameter.grad is not None
    ]
    return places, [place.parameter.grad for place in places]  # type: ignore[misc]


def name_of(place: Place, param_groups: Sequence[dict[str, Any]]) -> str:
    """What messages call a parameter: its name if the optimizer has names, otherwise its place."""
    known, shape = param_groups[place.group].get("param_names"), tuple(place.parameter.shape)
    return known[place.place] if known else f"number {place.place} of group {place.group}, of shape {shape},"


def all_small(gradients: Sequence[Tensor]) -> bool:
    """Whether no norm is NaN, infinite or beyond 1e15; synchronizes once per device and dtype.

    Parameters
    ----------
    gradients : sequence of Tensor
        Of any shapes, dtypes and devices.

    Returns
    -------
    bool
        True where there are none.
    """
    if not gradients:
        return True
    found: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for norm in _norms(gradients):
        found.setdefault((norm.device, norm.dtype), []).append(norm)
    # The maximum is NaN where one of them is
    return all(float(torch.stack(norms).max()) <= MOST for norms in found.values())


def are_small(gradients: Sequence[Tensor]) -> Tensor:
    """For each gradient, whether its norm is neither NaN nor infinite nor beyond 1e15; reads nothing back.

    Parameters
    ----------
    gradients : sequence of Tensor
        Of any shapes and dtypes, on one device.

    Returns
    -------
    Tensor
        (number of gradients,), bool, on that device.
    """
    return torch.stack(list(_norms(gradients))) <= MOST


def _norms(gradients: Sequence[Tensor]) -> Sequence[Tensor]:
    return torch._foreach_norm([_wide_values(gradient) for gradient in gradients], 2)


def _wide_values(gradient: Tensor) -> Tensor:
    """Convert to a dtype in which finite entries have a finite norm."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return values if values.dtype.itemsize >= torch.float32.itemsize else values.float()
