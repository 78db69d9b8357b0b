"""SPEL: steepest descent under the spectral norm, projected to the manifold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import geoopt
import torch
from torch import Tensor

import sttp_riemann as sr
from sttp_riemann.frames.polar import nearest_frame
from sttp_riemann.optim.points import Points


class Spel(sr.RiemannianAdam):
    """SPEL with momentum.

    ``M <- b1 M + (1 - b1) G``, ``X <- msign(X - lr msign(P(M)))``, with ``msign(Y) = Y (Y^T Y)^{-1/2}`` and ``P`` the
    projection to the tangent space at X. Both polar factors are exact to rounding. The larger of the two betas is of
    use for other parameters only.

    Notes
    -----
    Yang and Lai 2026, "Manifold constrained steepest descent", arXiv 2601.21487. The formula, and that momentum comes
    before the projection, were checked against a summary of the paper; the paper itself could not be read.
    """

    needed = ("step", "exp_avg")

    def _shapes(self, frame: geoopt.ManifoldParameter, group: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        return {}

    def state_shapes(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of what it keeps: no second moment of frames."""
        second = {} if isinstance(parameter, geoopt.ManifoldParameter) else {"exp_avg_sq": parameter.shape}
        return {"step": (), "exp_avg": parameter.shape, **second}

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        manifold, x, group = points.manifold, points.x, points.group
        kept["exp_avg"] = kept.get("exp_avg", torch.zeros_like(x)).lerp(gradient, 1 - group["betas"][0])
        x.copy_(nearest_frame(x - group["lr"] * nearest_frame(manifold.proju(x, kept["exp_avg"]))))
