"""POGO: the relative gradient of what an ordinary optimizer wants, then one cheap pull to the manifold."""

from __future__ import annotations

import torch
from torch import Tensor

import sttp_riemann as sr
from rivals.landing import relative_gradient
from sttp_riemann.optim.points import Points


class Pogo(sr.RiemannianAdam):
    """POGO on Adam with one second moment a matrix.

    ``D`` is Adam's direction for the Euclidean gradient, ``M = X - lr skew(D X^T) X``, and
    ``X <- M + M (I - M^T M) / 2``.

    Notes
    -----
    Javaloy and Vergari 2026, arXiv 2602.14656, transposed: they keep orthonormal rows. The two steps were checked
    against the authors' code. Their base optimizer is "vector Adam", one second moment a vector; that it is one a
    matrix here, ``|G|^2``, is our reading and could not be checked. A step has a length of about ``lr`` or less.
    Momentum is not transported, so it keeps what was normal to the manifold where it was gathered, which is tangent
    where the frame is now; that the authors' base optimizers do the same is our reading, too.
    """

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        x, step, group = points.x, points.step, points.group
        beta1, beta2 = group["betas"]
        first = kept.get("exp_avg", torch.zeros_like(x)).lerp(gradient, 1 - beta1)
        square = gradient.square().sum((-2, -1), keepdim=True)
        second = kept.get("exp_avg_sq", torch.zeros_like(square)).lerp(square, 1 - beta2)
        kept["exp_avg"], kept["exp_avg_sq"] = first, second
        direction = first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt() + group["eps"])
        _move(x, direction, group["lr"])


class PogoTangent(Pogo):
    """POGO on Adam for gradients that are first projected to the tangent space: a variant of ours."""

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        tangent = points.manifold.proju(points.x, gradient)
        super()._step_frames(points, tangent, kept, room)


class PogoSGD(sr.RiemannianSGD):
    """POGO on SGD: D is ``M <- momentum M + G``."""

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        x, group = points.x, points.group
        if group["momentum"]:
            before = kept.get("momentum_buffer", torch.zeros_like(x))
            gradient = kept["momentum_buffer"] = group["momentum"] * before + gradient
        _move(x, gradient, group["lr"])


def _move(x: Tensor, direction: Tensor, rate: float) -> None:
    middle = x - rate * relative_gradient(x, direction, x.mT @ x)
    x.copy_(1.5 * middle - 0.5 * middle @ (middle.mT @ middle))
