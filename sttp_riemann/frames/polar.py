"""The polar factor by Newton-Schulz iteration: matrix products only, no QR and no SVD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COMPILED_STEPS = 12
_MAX_STEPS = 80
# Nearer to I than this, a Gram matrix needs no scaling, and loses nothing of X that could be seen in the result
_SHORT = 0.5
_NOT_FINITE = "a frame or its step holds NaN or infinite values; lower the learning rate"


def short_correction(x: Tensor) -> Tensor | None:
    """The matrix A with polar factor X + X A, where X is near enough to a frame.

    Parameters
    ----------
    x : Tensor
        (..., n, r), n >= r.

    Returns
    -------
    Tensor or None
        (..., r, r); None where X^T X is too far from I, or holds NaN or infinite values, for `long_polar` to see to.

    Notes
    -----
    Keeping A = (X^T X)^{-1/2} - I instead of the inverse root keeps its rounding relative to A, not to I.
    """
    return _inverse_sqrt(x.mT @ x, _SHORT)


def long_polar(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Polar factor of a frame moved along a tangent vector of any length.

    Parameters
    ----------
    x : Tensor
        (..., n, r), n >= r, the moved frame, summed in float64: in float32 a long step swallows the frame.
    dtype : torch.dtype
        Of the result.

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
    The Gram matrix of a long step loses as many digits as the square of its length has, and float64 has some to spare
    for a float32 result. Where they run out, `nearest_frame` loses none.
    """
    spare = 0.01 * torch.finfo(dtype).eps / torch.finfo(x.dtype).eps
    root = _inverse_sqrt(x.mT @ x, spare)
    return (nearest_frame(x) if root is None else add_product(x, x, root)).to(dtype)


def _inverse_sqrt(gram: Tensor, farthest: float) -> Tensor | None:
    """G^{-1/2} - I of symmetric matrices with eigenvalues of at least 1/2; None beyond that distance from I.

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
    if largest is not None and not largest <= farthest:
        return None
    if largest is not None and largest <= _SHORT:
        return _iterate(deviation, _orders(1 - largest, gram.dtype))
    scale = 1 + bound / 2
    if largest is None:
        orders = [3] * _COMPILED_STEPS
    else:
        orders = _orders(max(1 - largest, 0.5) / (1 + largest / 2), gram.dtype)
    return (_iterate(gram / scale - eye, orders) + eye) / scale.sqrt() - eye


def _iterate(deviation: Tensor, orders: Sequence[int]) -> Tensor:
    """(I + E)^{-1/2} - I by steps of these orders of convergence."""
    total: Tensor | None = None
    for order in orders:
        if order == 2:
            factor, square = -0.5 * deviation, None
        else:
            square = deviation @ deviation
            factor = torch.sub(3 / 8 * square, deviation, alpha=0.5)
        total = factor if total is None else add_product(total + factor, total, factor)
        if square is not None:
            # What (I + E) (I + factor)^2 - I is, multiplied out: no term of the size of I is left to round
            inner = torch.sub(5 / 8 * deviation, square, alpha=15 / 64)
            deviation = square @ add_product(inner, square, deviation, 9 / 64)
    assert total is not None
    return total


def add_product(c: Tensor, a: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor:
    """C + alpha A B, in one pass where the operands are batches of matrices."""
    if c.ndim == 3:
        return torch.baddbmm(c, a, b, alpha=alpha)
    return c + alpha * (a @ b)


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
    correction = short_correction(x)
    return long_polar(x.double(), x.dtype) if correction is None else add_product(x, x, correction)


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

    Raises
    ------
    ValueError
        If an entry is NaN or infinite.

    Notes
    -----
    Newton-Schulz on X itself, X (15 I - 10 X^T X + 3 (X^T X)^2) / 8: slower than `polar`, but each step corrects the
    rounding of those before, whatever the condition number. Computed in float64. The polar factor is the nearest frame
    in the Frobenius norm (Higham, Functions of Matrices, Section 8.1).

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.frames.polar import nearest_frame
    >>> x = torch.randn(6, 3, dtype=torch.float64)
    >>> u, _, vh = torch.linalg.svd(x, full_matrices=False)
    >>> torch.allclose(nearest_frame(x), u @ vh)
    True
    """
    if x.numel() == 0:
        return x
    if not torch.isfinite(x).all():
        raise ValueError(_NOT_FINITE)
    # Twice, as the squares of the norm may not be numbers of float64 where the entries are
    scaled = _over(x.double(), x.double().abs().amax((-2, -1), keepdim=True))
    y = scaled = _over(scaled, torch.linalg.matrix_norm(scaled, keepdim=True))
    eye = torch.eye(x.shape[-1], dtype=y.dtype, device=x.device)
    tolerance = 4 * x.shape[-1] * torch.finfo(y.dtype).eps
    for _ in range(_MAX_STEPS):
        deviation = y.mT @ y - eye
        if float(deviation.abs().max()) < tolerance:
            return y.to(x.dtype)
        y = y + y @ torch.sub(3 / 8 * (deviation @ deviation), deviation, alpha=0.5)
    full = (y.mT @ y - eye).abs().amax((-2, -1), keepdim=True) < 1e-3
    q, r = torch.linalg.qr(scaled)
    return torch.where(full, y, q * _sign(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)).to(x.dtype)


def _over(x: Tensor, size: Tensor) -> Tensor:
    return x / torch.where(size > 0, size, torch.ones_like(size))


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
