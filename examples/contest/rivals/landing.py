"""Landing: a step that descends and is drawn to the manifold, without a retraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import geoopt
import torch
from torch import Tensor

import sttp_riemann as sr
from sttp_riemann.optim.points import Points

FARTHEST = 0.5


class Landing(sr.RiemannianSGD):
    """The landing algorithm on the Stiefel manifold.

    ``X <- X - a (R + l N)`` with the relative gradient ``R = skew(G X^T) X``, ``skew(A) = (A - A^T) / 2``, and
    ``N = X (X^T X - I)``. The step ``a`` is `lr` or the safe step, whichever is less: with ``d = |X^T X - I|`` and
    ``g = |R + l N|`` (Frobenius norms) that is
    ``min((l d (1 - d) + sqrt(l^2 d^2 (1 - d)^2 + g^2 (e - d))) / g^2, 1 / (2 l))``, so that d stays below e.
    Here l = 1 and e = 1/2, and momentum acts on other parameters only.

    Notes
    -----
    Ablin and Peyre 2022; Ablin, Vary, Gao and Absil 2023 for rectangular matrices. All but the bound 1 / (2 l) was
    checked against the authors' code, which has no such bound; it is recalled from the second paper, which could not be
    read.
    """

    attraction: ClassVar[float] = 1.0
    remembers: ClassVar[bool] = False

    def state_shapes(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of what it keeps."""
        frame = isinstance(parameter, geoopt.ManifoldParameter)
        momentum = {"momentum_buffer": parameter.shape} if group["momentum"] and (self.remembers or not frame) else {}
        return {"step": (), **momentum} if frame else momentum

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        x, group = points.x, points.group
        gram = x.mT @ x
        off = gram - torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        relative = relative_gradient(x, gradient, gram)
        if self.remembers and group["momentum"]:
            before = kept.get("momentum_buffer", torch.zeros_like(x))
            relative = kept["momentum_buffer"] = group["momentum"] * before + relative
        field = relative + self.attraction * x @ off
        d, square = (torch.linalg.matrix_norm(m, keepdim=True) ** power for m, power in ((off, 1), (field, 2)))
        pull = self.attraction * d * (1 - d)
        safe = (pull + (pull.square() + square * (FARTHEST - d).clamp_min(0)).sqrt()) / square.clamp_min(1e-30)
        x.sub_(safe.clamp(0, min(group["lr"], 1 / (2 * self.attraction))) * field)


class LandingWeak(Landing):
    """Landing with l = 0.1, which lets steps be ten times as long."""

    attraction = 0.1


class LandingMomentum(Landing):
    """Landing along ``M <- momentum M + R`` in place of the relative gradient R.

    Notes
    -----
    A variant: the authors' code for square matrices keeps momentum of ``skew(G X^T)``, of size (n, n), which gauge
    fixing could not carry along; that for rectangular ones keeps none.
    """

    remembers = True


def relative_gradient(x: Tensor, gradient: Tensor, gram: Tensor) -> Tensor:
    """``skew(G X^T) X``, without a matrix of size (n, n).

    Parameters
    ----------
    x, gradient : Tensor
        (B, n, r).
    gram : Tensor
        (B, r, r), ``X^T X``.

    Returns
    -------
    Tensor
        (B, n, r).
    """
    return (gradient @ gram - x @ (gradient.mT @ x)) / 2
