"""The polar factor of the momentum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, matrix_denominator
from sttp_riemann.optim.stepping import projected

QUINTICS = (
    (8.093368512548, -23.620430328824, 17.446151749836),
    (3.636585554259, -2.721926746609, 0.536546288327),
    (2.661299985777, -1.977154521885, 0.452616406996),
    (1.956171638884, -1.337507745944, 0.383852701330),
)
"""Coefficients of s, s^3 and s^5, step by step: together they map every s from 0.01 to 1 to within 0.0125 of 1.

Each is the quintic nearest to 1, in the largest error, on the interval that the ones before it map [0.01, 1] to.
"""


class PolarMoment(Moment):
    """Muon's direction: all singular values of the momentum become one, and then the result is projected.

    The length is that of a step with one second moment a matrix.

    Notes
    -----
    Jordan et al. 2024, "Muon"; Amsel et al. 2025, "The Polar Express", for the choice of polynomials. They act on the
    Gram matrix of the momentum, which has fewer rows. Singular values under a hundredth of the largest grow in
    proportion instead, so that a momentum without full rank has a direction, too.
    """

    @staticmethod
    @override
    def shapes(shape: torch.Size, manifold: Any) -> dict[str, tuple[int, ...]]:
        return {"exp_avg_sq": (*shape[:-2], 1, 1)}

    @staticmethod
    @override
    def direct(
        manifold: Any, x: Tensor, tangent: Tensor, kept: dict[str, Tensor], step: int, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        denominator = matrix_denominator(manifold, x, tangent, kept, step, group)
        first = kept["exp_avg"]
        direction = projected(manifold, x, near_polar(first), None)
        length = torch.linalg.matrix_norm(first, keepdim=True) / _divisor(direction)
        return direction, length * (-group["lr"] / (1 - group["betas"][0] ** step)) / denominator


def near_polar(x: Tensor) -> Tensor:
    """Matrices with the singular vectors of given ones, and singular values near 1.

    Parameters
    ----------
    x : Tensor
        (B, n, r), n >= r.

    Returns
    -------
    Tensor
        (B, n, r); zero for zero.

    Notes
    -----
    Commutes with rotations on either side, to rounding: the scale depends on singular values alone.
    """
    scaled = x / _divisor(x)
    gram = scaled.mT @ scaled
    square = gram @ gram
    # The fourth root of tr G^4 bounds the largest eigenvalue of G, closer than its trace does
    size = _divisor(square).sqrt_()
    gram, square = gram / size, square / size**2
    total: Tensor | None = None
    for number, (a, b, c) in enumerate(QUINTICS):
        if number:
            gram = (gram @ factor) @ factor
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        else:
            factor = square.mul_(c).add_(gram, alpha=b)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        total = factor if total is None else total @ factor
    assert total is not None
    return scaled @ (total / size.sqrt())


def _divisor(x: Tensor) -> Tensor:
    """Frobenius norms, to divide by."""
    return torch.linalg.matrix_norm(x, keepdim=True).clamp_min_(torch.finfo(x.dtype).tiny)
