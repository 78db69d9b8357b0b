"""Base class of the ways in which Adam turns gradients of frames into a step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from sttp_riemann.optim.points import Points


class Moment(ABC):
    """The moments of frames, and the step that follows from them.

    It commutes with gauge moves: frames that are turned in their rank indices, with their state, step in turned
    directions. What it keeps for a frame has the names that `sttp_riemann.frames.momentum` knows, by which gauge fixing
    carries it.

    Attributes
    ----------
    anywhere : bool
        Whether it serves points of any manifold, and not only frames on `PolarStiefel`.
    by_core : bool
        Whether it depends on the outer rank of a frame, so that only frames with equal ones are stepped together.
    """

    anywhere: ClassVar[bool] = False
    by_core: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def shapes(shape: torch.Size, manifold: Any) -> dict[str, tuple[int, ...]]:
        """Shapes of what it keeps for a point, apart from ``exp_avg`` and AMSGrad's maximum.

        Parameters
        ----------
        shape : torch.Size
            Of the point.
        manifold : geoopt.Manifold
            Of the point.

        Returns
        -------
        dict
            By name; ``exp_avg_sq`` is always there.
        """

    @staticmethod
    @abstractmethod
    def direct(points: Points, tangent: Tensor, kept: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take in a gradient, and tell where to go.

        Parameters
        ----------
        points : Points
            Those that are stepped together.
        tangent : Tensor
            (B, n, r), their Riemannian gradients.
        kept : dict
            State by name, each (B, ...); changed in place.

        Returns
        -------
        direction : Tensor
            (B, n, r), tangent.
        scale : Tensor
            Broadcasts to it; the step is their product.
        carried : Tensor or None
            (B, n, r), part of the state that is to be projected to the tangent space where the points end.
        """

    @staticmethod
    def longest(points: Points) -> float:
        """Bound on the Frobenius norm of a step, from what is known without looking at a gradient.

        Parameters
        ----------
        points : Points
            Those that are stepped together.

        Returns
        -------
        float

        Notes
        -----
        With the weights ``w`` and ``v`` of the same gradients in both moments, ``|sum w g| <= sqrt(sum w^2 / v)
        sqrt(sum v |g|^2)`` by the inequality of Cauchy and Schwarz. It assumes that the betas stay the same. In bases
        that turn it is proven only from one turn to the next; a step that exceeds it leaves its frames off the manifold
        until the next step.
        """
        beta1, beta2 = points.group["betas"]
        ratio = beta1**2 / beta2 if beta2 else math.inf if beta1 else 0.0
        total = 1.0 if points.step == 1 else (1 - ratio**points.step) / (1 - ratio) if ratio < 1 else math.inf
        unbiased = math.sqrt(1 - beta2**points.step) / (1 - beta1**points.step)
        growth = unbiased * (1 - beta1) * math.sqrt(total / (1 - beta2))
        return float(points.group["lr"] * growth * math.sqrt(entries_in(points)))


def averaged(kept: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """First moment, with its bias; its state is updated.

    Parameters
    ----------
    kept : dict
        State, with ``exp_avg`` or without.
    gradient : Tensor
        To take in.
    group : dict
        Options.

    Returns
    -------
    Tensor
        The state itself.
    """
    if "exp_avg" not in kept:
        kept["exp_avg"] = torch.zeros_like(gradient)
    return kept["exp_avg"].lerp_(gradient, 1 - group["betas"][0])


def entries_in(points: Points) -> int:
    """Entries of a point whose root mean square a step is to match Adam's in; 1 for geoopt's length.

    Parameters
    ----------
    points : Points
        Those that are stepped together.

    Returns
    -------
    int
    """
    x, manifold = points.x, points.manifold
    return math.prod(x.shape[x.dim() - manifold.ndim :]) if points.group["match_adam"] else 1


def averaged_square(kept: dict[str, Tensor], square: Tensor, group: dict[str, Any]) -> Tensor:
    """Second moment, with its bias, AMSGrad's if that is asked for; its state is updated.

    Parameters
    ----------
    kept : dict
        State, with ``exp_avg_sq`` or without.
    square : Tensor
        Squares to take in.
    group : dict
        Options.

    Returns
    -------
    Tensor
        The state itself.
    """
    if "exp_avg_sq" not in kept:
        kept["exp_avg_sq"] = torch.zeros_like(square)
    second = kept["exp_avg_sq"].lerp_(square, 1 - group["betas"][1])
    if group["amsgrad"]:
        largest = kept.setdefault("max_exp_avg_sq", torch.zeros_like(second))
        second = torch.maximum(largest, second, out=largest)
    return second


def matrix_denominator(points: Points, tangent: Tensor, kept: dict[str, Tensor]) -> Tensor:
    """Adam's denominator with one second moment a matrix; takes in the gradient.

    Parameters
    ----------
    points, tangent, kept
        As `Moment.direct` takes them.

    Returns
    -------
    Tensor
        (B, 1, 1).
    """
    group = points.group
    second = averaged_square(kept, points.manifold.inner(points.x, tangent, keepdim=True), group)
    unbiased = 1 - group["betas"][1] ** points.step
    return (second / (entries_in(points) * unbiased)).sqrt_().add_(group["eps"])
