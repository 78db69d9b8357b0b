"""One second moment a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, averaged, matrix_denominator
from sttp_riemann.optim.points import Points


class MatrixMoment(Moment):
    """The mean square of a gradient's entries: the momentum itself is the direction.

    Notes
    -----
    Becigneul and Ganea 2019, with each frame as one factor of a product of manifolds.
    """

    anywhere = True

    @staticmethod
    @override
    def shapes(shape: torch.Size, manifold: Any) -> dict[str, tuple[int, ...]]:
        return {"exp_avg_sq": (*shape[:-2], 1, 1)}

    @staticmethod
    @override
    def direct(points: Points, tangent: Tensor, kept: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        group = points.group
        first = averaged(kept, tangent, group)
        denominator = matrix_denominator(points, tangent, kept)
        return first, -group["lr"] / (1 - group["betas"][0] ** points.step) / denominator, first
