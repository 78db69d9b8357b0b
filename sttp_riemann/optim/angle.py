"""A largest angle of a step."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def shortened(direction: Tensor, scale: Tensor, angle: float | None) -> Tensor:
    """Scale of a step of frames that turns no subspace by more than an angle.

    Parameters
    ----------
    direction : Tensor
        (B, n, r), tangent.
    scale : Tensor
        Broadcasts to it; the step is their product.
    angle : float or None
        In radians, below pi / 2; None for no bound.

    Returns
    -------
    Tensor
        The scale, smaller for frames whose step would be too long.

    Notes
    -----
    X + X A + Y B, with A skew, X^T Y = 0 and Y orthonormal, spans what X + Y B (I + A)^{-1} does: the tangents of the
    principal angles are the singular values of B (I + A)^{-1}, and none exceeds the largest singular value of the step,
    as those of I + A are at least 1. That one is bounded by ``tan(angle)``; gauge moves do not change it.
    """
    if angle is None or direction.numel() == 0:
        return scale
    gram = direction.mT @ direction
    length = torch.linalg.eigvalsh(gram)[..., -1:, None].clamp_min_(torch.finfo(gram.dtype).tiny).sqrt_()
    return scale * (math.tan(angle) / (length * scale.abs())).clamp_max_(1)
