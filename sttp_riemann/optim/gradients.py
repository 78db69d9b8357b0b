"""Refuse gradients with which no step can be taken."""

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
        The parameter.
    name : str
        Its name in the message.

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
        Parameter groups of any optimizer.

    Raises
    ------
    GradientError
        The message names the first such parameter, by its name if the optimizer has names.
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
    for norm in torch._foreach_norm([_wide_values(gradient) for gradient in gradients], 2):
        found.setdefault((norm.device, norm.dtype), []).append(norm)
    # The maximum is NaN where one of them is
    return all(float(torch.stack(norms).max()) <= MOST for norms in found.values())


def _wide_values(gradient: Tensor) -> Tensor:
    """Convert to a dtype in which finite entries have a finite norm."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return values if values.dtype.itemsize >= torch.float32.itemsize else values.float()
