"""One second moment a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, averaged, matrix_denominator


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
    def direct(
        manifold: Any,
        x: Tensor,
        tangent: Tensor,
        kept: dict[str, Tensor],
        step: int,
        group: dict[str, Any],
        leading: int,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        first = averaged(kept, tangent, group)
        denominator = matrix_denominator(manifold, x, tangent, kept, step, group)
        return first, -group["lr"] / (1 - group["betas"][0] ** step) / denominator, first
