"""Points that are stepped together, and how they move."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sttp_riemann.frames import PolarStiefel


class Points(NamedTuple):
    """Points that are stepped together, and what their step depends on.

    Attributes
    ----------
    manifold : geoopt.Manifold
        Theirs.
    x : Tensor
        (B, n, r), the points.
    step : int
        Number of this step, from 1.
    group : dict
        Options.
    leading : int
        How many of the points have rows that run through their outer rank first; the others follow.
    spare : Tensor or None
        (B, n, r), scratch memory besides that for the gradient; None for none.
    """

    manifold: Any
    x: Tensor
    step: int
    group: dict[str, Any]
    leading: int
    spare: Tensor | None = None


def projected(manifold: Any, x: Tensor, gradient: Tensor, room: Tensor | None) -> Tensor:
    """Riemannian gradient; overwrites the Euclidean one if that is a copy."""
    if not isinstance(manifold, PolarStiefel):
        tangent: Tensor = manifold.egrad2rgrad(x, gradient)
        return tangent
    xtu = torch.bmm(x.mT, gradient)
    return torch.baddbmm(gradient, x, xtu + xtu.mT, alpha=-0.5, out=room)


def move(
    manifold: Any,
    x: Tensor,
    direction: Tensor,
    scale: Tensor,
    carried: Tensor | None,
    room: Tensor | None = None,
    longest: float = math.inf,
) -> None:
    """Retract along ``scale * direction`` and transport the carried vectors, in place; `longest` bounds the steps."""
    if isinstance(manifold, PolarStiefel):
        manifold.move_(x, direction, scale, carried, room, longest)
    elif carried is None:
        x.copy_(manifold.retr(x, scale * direction))
    else:
        moved, transported = manifold.retr_transp(x, scale * direction, carried)
        x.copy_(moved)
        carried.copy_(transported)
