"""Cayley SGD and Cayley Adam: a skew-symmetric matrix of the momentum, and an iterated Cayley transform."""

from __future__ import annotations

import torch
from torch import Tensor

import sttp_riemann as sr
from sttp_riemann.optim.points import Points

ITERATIONS, LARGEST, RENEWED = 2, 0.5, 100


class CayleySGD(sr.RiemannianSGD):
    """Cayley SGD with momentum.

    ``M <- momentum M - G``, ``W = V - V^T`` with ``V = M X^T - X (X^T M X^T) / 2``, ``M <- W X``,
    ``a = min(lr, 2 q / |W|)`` with q = 0.5, and from ``Y = X + a M`` twice ``Y <- X + (a / 2) W (X + Y)``.

    Notes
    -----
    Li, Li and Todorovic 2020, Algorithm 1. The norm is the largest column sum, as in the authors' code; that code also
    orthonormalizes by QR at one step in a hundred, drawn at random, and this at every hundredth. The formulas and the
    two iterations were checked against a summary of the paper and against copies of the authors' code, which iterates
    five times; the paper itself could not be read. Where the norm bounds the step, the step depends on the gauge.
    """

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        x, step, group = points.x, points.step, points.group
        before = kept.get("momentum_buffer", torch.zeros_like(x))
        skew = _skew(x, group["momentum"] * before - gradient)
        if group["momentum"]:
            kept["momentum_buffer"] = skew @ x
        _move(x, skew, group["lr"], step)


class CayleyAdam(sr.RiemannianAdam):
    """Cayley Adam.

    ``M <- b1 M + (1 - b1) G``, ``v <- b2 v + (1 - b2) |G|^2``, one number a matrix,
    ``r = (1 - b1^k) sqrt(v / (1 - b2^k) + eps)``, ``W = (V - V^T) / r`` with V as in `CayleySGD`, ``M <- r W X``, and a
    step as there along ``-W``.

    Notes
    -----
    Li, Li and Todorovic 2020, Algorithm 2, checked against copies of the authors' code, with the same remarks as for
    `CayleySGD`. That code lets the iteration begin with ``X - a M``, whose length has nothing to do with the step's;
    here it begins with ``X - a W X``, as in Algorithm 1.
    """

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        x, step, group = points.x, points.step, points.group
        beta1, beta2 = group["betas"]
        first = kept.get("exp_avg", torch.zeros_like(x)).lerp(gradient, 1 - beta1)
        square = gradient.square().sum((-2, -1), keepdim=True)
        second = kept.get("exp_avg_sq", torch.zeros_like(square)).lerp(square, 1 - beta2)
        scale = (1 - beta1**step) * (second / (1 - beta2**step) + group["eps"]).sqrt()
        skew = _skew(x, first) / scale
        kept["exp_avg"], kept["exp_avg_sq"] = scale * (skew @ x), second
        _move(x, -skew, group["lr"], step)


def _skew(x: Tensor, momentum: Tensor) -> Tensor:
    half = momentum @ x.mT - x @ (x.mT @ momentum @ x.mT) / 2
    return half - half.mT


def _move(x: Tensor, skew: Tensor, rate: float, step: int) -> None:
    length = torch.linalg.matrix_norm(skew, 1, keepdim=True)
    half = (2 * LARGEST / (length + 1e-8)).clamp_max(rate) / 2 * skew
    moved = x + 2 * half @ x
    for _ in range(ITERATIONS):
        moved = x + half @ (x + moved)
    if step % RENEWED == 0:
        moved, triangle = torch.linalg.qr(moved)
        moved = moved * triangle.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    x.copy_(moved)
