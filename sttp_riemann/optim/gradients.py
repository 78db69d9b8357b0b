"""Gradients that no step can be taken with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MOST = 1e15
"""Largest norm of a gradient whose square is safely finite in float32."""


class GradientError(ValueError):
    """A gradient that holds NaN, infinite or huge values.

    Parameters
    ----------
    parameter : Tensor
        The parameter that it is of.
    name : str
        How the message names it.

    Attributes
    ----------
    parameter : Tensor
        As given.
    """

    def __init__(self, parameter: Tensor, name: str) -> None:
        self.parameter = parameter
        super().__init__(
            f"the gradient of parameter {name} holds NaN, infinite or huge values; nothing was changed: leave this "
            "step out, or lower the learning rate"
        )


def check_gradients(param_groups: Sequence[dict[str, Any]]) -> None:
    """Refuse gradients that are not finite, or beyond 1e15.

    Parameters
    ----------
    param_groups : sequence of dict
        Of any optimizer.

    Raises
    ------
    GradientError
        The message names the first such parameter: by its name where the optimizer knows names.
    """
    places = [
        (number, place, parameter)
        for number, group in enumerate(param_groups)
        for place, parameter in enumerate(group["params"])
        if parameter.grad is not None
    ]
    if all_small([parameter.grad for _, _, parameter in places]):
        return
    for number, place, parameter in places:
        if not all_small([parameter.grad]):
            known = param_groups[number].get("param_names")
            name = known[place] if known else f"number {place} of group {number}, of shape {tuple(parameter.shape)},"
            raise GradientError(parameter, name)


def all_small(gradients: Sequence[Tensor]) -> bool:
    """Tell whether no norm is NaN, infinite or beyond 1e15; one wait a device, whatever their number.

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
    found: dict[torch.device, list[Tensor]] = {}
    for norm in torch._foreach_norm([_wide_values(gradient) for gradient in gradients], 2):
        found.setdefault(norm.device, []).append(norm.to(torch.float32))
    return all(bool((torch.stack(norms) <= MOST).all()) for norms in found.values())


def _wide_values(gradient: Tensor) -> Tensor:
    """Entries whose norm is finite if they are."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return values if values.dtype.itemsize >= torch.float32.itemsize else values.float()
