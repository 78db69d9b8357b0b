"""The polar factor by Newton-Schulz iteration: matrix products only, no QR and no SVD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COMPILED_STEPS = 12
_MAX_STEPS = 60
# Nearer to I than this, the iteration converges without scaling
_UNSCALED = 0.5


def inverse_sqrt(gram: Tensor) -> Tensor:
    """Inverse square root of symmetric matrices whose eigenvalues are at least 1/2.

    Those of (X + xi)^T (X + xi) with X orthonormal and xi tangent are at least 1.

    Parameters
    ----------
    gram : Tensor
        (..., r, r).

    Returns
    -------
    Tensor
        (..., r, r).

    Raises
    ------
    ValueError
        If an entry is NaN or infinite.

    Notes
    -----
    Coupled Newton-Schulz (Higham, Functions of Matrices, Section 6.7, problem 6.26): with Z -> G^{-1/2} and
    M = I + E -> I, both are multiplied by I - E / 2 + 3 E^2 / 8. A matrix far from I is first scaled into (0, 2), so
    the iteration always converges; how many steps it takes, and whether the last needs E^2, is known from the bound on
    ||G - I||, so no residual is read back in the loop. The whole is a symmetric function of G, hence commutes with
    rotations G -> Q^T G Q.
    """
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    deviation = gram - eye
    bound = torch.minimum(
        torch.linalg.matrix_norm(deviation, keepdim=True),
        deviation.abs().sum(-1, keepdim=True).amax(-2, keepdim=True),
    )
    largest = None if torch.compiler.is_compiling() or bound.numel() == 0 else float(bound.max())
    if largest is not None and largest <= _UNSCALED:
        return _iterate(deviation, eye, _orders(1 - largest, gram.dtype))
    scale = 1 + bound / 2
    if largest is None:
        orders = [3] * _COMPILED_STEPS
    elif largest < float("inf"):
        orders = _orders(max(1 - largest, 0.5) / (1 + largest / 2), gram.dtype)
    else:
        raise ValueError("a frame or its step holds NaN or infinite values; lower the learning rate")
    return _iterate(gram / scale - eye, eye, orders) / scale.sqrt()


def _iterate(deviation: Tensor, eye: Tensor, orders: Sequence[int]) -> Tensor:
    """(I + deviation)^{-1/2} by steps of these orders of convergence."""
    z = _factor(deviation, eye, orders[0])
    factor = z
    for order in orders[1:]:
        # All factors are polynomials of one symmetric matrix, so they commute; this order keeps the matrix symmetric.
        deviation = factor @ (deviation + eye) @ factor - eye
        factor = _factor(deviation, eye, order)
        z = z @ factor
    return z


def _factor(deviation: Tensor, eye: Tensor, order: int) -> Tensor:
    linear = torch.add(eye, deviation, alpha=-1 / 2)
    if order == 2:
        return linear
    if deviation.ndim == 3:
        return torch.baddbmm(linear, deviation, deviation, alpha=3 / 8)
    return linear + 3 / 8 * (deviation @ deviation)


def _orders(low: float, dtype: torch.dtype) -> list[int]:
    """Orders of the steps that bring what is left below rounding, from the scalar iteration at the lower end."""
    tolerance = torch.finfo(dtype).eps
    orders: list[int] = []
    while len(orders) < _MAX_STEPS:
        deviation = 1 - low
        # What the step leaves of the inverse square root: the first term of the series that it drops
        if 3 / 8 * deviation**2 < tolerance:
            return [*orders, 2]
        orders.append(3)
        if 5 / 16 * deviation**3 < tolerance:
            return orders
        low *= ((15 - 10 * low + 3 * low * low) / 8) ** 2
    return orders


def polar(x: Tensor) -> Tensor:
    """Orthonormal polar factor X (X^T X)^{-1/2} of a frame moved along a tangent vector.

    Parameters
    ----------
    x : Tensor
        (..., n, r), n >= r, no singular value below 0.71; see `nearest_frame` for any other.

    Returns
    -------
    Tensor
        (..., n, r).

    Raises
    ------
    ValueError
        If an entry is NaN or infinite.

    Notes
    -----
    Commutes with rotations on either side: polar(P X Q) = P polar(X) Q, which is what lets gauge moves pass.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.frames.polar import polar
    >>> frame = torch.eye(4, 2, dtype=torch.float64)
    >>> tangent = torch.tensor([[0, -1], [1, 0], [2, 0], [0, 1]], dtype=torch.float64)
    >>> moved = polar(frame + tangent)
    >>> torch.allclose(moved.mT @ moved, torch.eye(2, dtype=torch.float64))
    True
    """
    return x @ inverse_sqrt(x.mT @ x)


def nearest_frame(x: Tensor) -> Tensor:
    """Polar factor of any matrix of full column rank, however far from orthonormal, without an SVD.

    Parameters
    ----------
    x : Tensor
        (..., n, r), n >= r.

    Returns
    -------
    Tensor
        (..., n, r). Where the columns are dependent, the missing directions are completed by QR.

    Notes
    -----
    Newton-Schulz on X itself, X (15 I - 10 X^T X + 3 (X^T X)^2) / 8: slower than `polar`, but each step corrects the
    rounding of those before, whatever the condition number. The polar factor is the nearest frame in the Frobenius norm
    (Higham, Functions of Matrices, Section 8.1).

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.frames.polar import nearest_frame
    >>> x = torch.randn(6, 3, dtype=torch.float64)
    >>> u, _, vh = torch.linalg.svd(x, full_matrices=False)
    >>> torch.allclose(nearest_frame(x), u @ vh)
    True
    """
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    y = x / torch.where(norm > 0, norm, torch.ones_like(norm))
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    tolerance = 4 * x.shape[-1] * torch.finfo(x.dtype).eps
    for _ in range(_MAX_STEPS):
        gram = y.mT @ y
        if y.numel() == 0 or float((gram - eye).abs().max()) < tolerance:
            return y
        y = y @ _factor(gram - eye, eye, 3)
    full = ((y.mT @ y - eye).abs().amax((-2, -1), keepdim=True) < 1e-3) if y.numel() else eye
    q, r = torch.linalg.qr(x)
    return torch.where(full, y, q * _sign(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2))


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
