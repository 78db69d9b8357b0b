"""Whether the gradients of a step are fit: decided on their device, and reported one step later, without waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.optim.gradients import GradientError, are_small, gradients_of, name_of


def waits(device: torch.device) -> bool:
    """Whether reading a number waits for all work queued on a device, and can be put off there.

    Parameters
    ----------
    device : torch.device
        Any.

    Returns
    -------
    bool
    """
    return device.type in ("cuda", "xpu")


class Verdict:
    """What is to be known of the gradients of a step.

    Parameters
    ----------
    param_groups : sequence of dict
        Parameter groups; all gradients are on one device.

    Attributes
    ----------
    refused : Tensor
        (), bool, on the device of the gradients: whether one of them is NaN, infinite or beyond 1e15.
    states : list of dict
        States of frames that the step counts in, for who undoes that.
    fresh : list of Tensor
        Plain parameters of which it is the first: torch's fused steps leave some of their new state undefined.
    """

    def __init__(self, param_groups: Sequence[dict[str, Any]]) -> None:
        self._places, gradients = gradients_of(param_groups)
        self._fit = are_small(gradients)
        self.refused = self._fit.all().logical_not()
        self.states: list[dict[str, Any]] = []
        self.fresh: list[Tensor] = []
        self._copy, self._copied = _sent(self.refused)

    def error(self, param_groups: Sequence[dict[str, Any]]) -> GradientError | None:
        """Wait until the device knows, and tell which gradient was refused.

        Parameters
        ----------
        param_groups : sequence of dict
            For the names of parameters.

        Returns
        -------
        GradientError or None
            None where none was.
        """
        if self._copied is not None:
            self._copied.synchronize()
        # Not `bool`: this is memory of the processor, which nothing needs to wait for
        if not self._copy.numpy():
            return None
        place = self._places[self._fit.tolist().index(False)]
        return GradientError(place.parameter, name_of(place, param_groups), late=True)


def undoing(refused: Tensor, x: Tensor, kept: dict[str, Tensor]) -> Callable[[], None]:
    """Remember points and their state, for a step that is undone on its device where its gradients are refused.

    Parameters
    ----------
    refused : Tensor
        (), bool.
    x : Tensor
        The points.
    kept : dict
        State by name; the step may change its tensors, replace them and add others.

    Returns
    -------
    callable
        To be called after the step; puts back what was there, or leaves everything as it is.
    """
    points, states = x.clone(), [(name, value, value.clone()) for name, value in kept.items()]

    def undo() -> None:
        torch.where(refused, points, x, out=x)
        for name, value, copy in states:
            now = kept[name]
            kept[name] = torch.where(refused, copy, now, **{"out": now} if now is value else {})

    return undo


def _sent(flag: Tensor) -> tuple[Tensor, Any]:
    """Memory of the processor that a flag is being copied to, and the event after which it is there."""
    if flag.device.type == "cpu":
        return flag.clone(), None
    copy = torch.empty((), dtype=flag.dtype, pin_memory=True).copy_(flag, non_blocking=True)
    copied = torch.get_device_module(flag.device).Event()
    copied.record()
    return copy, copied
