"""The polar factor of the momentum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, averaged, matrix_denominator
from sttp_riemann.optim.points import Points, projected

QUINTICS = (
    (7.710969245868, -22.113754790481, 16.248743017738),
    (3.215275987308, -2.411172010256, 0.501300013615),
    (2.218307752424, -1.593989622916, 0.410747887511),
)
"""Coefficients of s, s^3 and s^5, step by step: together they map every s from 0.02 to 1 to within 0.0932 of 1.

Each is the quintic nearest to 1, in the largest error, on the interval that those before it map [0.02, 1] to.
"""


class PolarMoment(Moment):
    """Muon's direction: all singular values of the momentum become one, and then the result is projected.

    The length is that of a step with one second moment a matrix. The direction is projected in any case, and so the
    momentum is not.

    Notes
    -----
    Jordan et al. 2024, "Muon"; Amsel et al. 2025, "The Polar Express", for the choice of polynomials. They act on the
    Gram matrix of the momentum, which has fewer rows. Singular values under a fiftieth of the largest grow in
    proportion instead, so that a momentum without full rank has a direction, too.
    """

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
        direction = projected(points.manifold, points.x, near_polar(first), None)
        length = torch.linalg.matrix_norm(first, keepdim=True) / _divisor(direction)
        return direction, length * (-group["lr"] / (1 - group["betas"][0] ** points.step)) / denominator, None


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
    first, *others = QUINTICS
    total = factor = _plus(square.mul_(first[2]).add_(gram, alpha=first[1]), first[0])
    for a, b, c in others:
        gram = (gram @ factor) @ factor
        factor = _plus(torch.baddbmm(gram, gram, gram, beta=b, alpha=c), a)
        total = total @ factor
    return scaled @ (total / size.sqrt())


def _plus(x: Tensor, number: float) -> Tensor:
    """Add a multiple of the identity, in place."""
    x.diagonal(dim1=-2, dim2=-1).add_(number)
    return x


def _divisor(x: Tensor) -> Tensor:
    """Frobenius norms, to divide by."""
    return torch.linalg.matrix_norm(x, keepdim=True).clamp_min_(torch.finfo(x.dtype).tiny)
