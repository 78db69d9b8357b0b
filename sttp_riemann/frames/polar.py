"""The polar factor by Newton-Schulz iteration: matrix products only, no QR and no SVD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COMPILED_STEPS = 12
_MAX_STEPS = 80
# Nearer to I than this, the iteration converges without scaling
_UNSCALED = 0.5
# Nearer to I than this, one step of third order is enough in float32
_ONE_STEP = 0.007
# Nearer to I than this, a Gram matrix of up to 64 columns loses no digits that its dtype would show
_SHORT = 2.5
LONGEST = 5.0
"""Frobenius norm of a step after which the Gram matrix has lost no digits that frames need in float32."""
# Frames are nearer to their manifold than this
_DRIFT = 0.01
_NOT_FINITE = "a frame or its step holds NaN or infinite values; lower the learning rate"


def short_polar(x: Tensor, out: Tensor | None = None) -> Tensor | None:
    """Polar factor of X, if X is close enough to a frame.

    Parameters
    ----------
    x : Tensor
        (..., n, r), n >= r.
    out : Tensor, optional
        (B, n, r), gets the result of an X of that shape; not X itself.

    Returns
    -------
    Tensor or None
        (..., n, r); None where X^T X is too far from I or not finite: use `long_polar` then.
    """
    rest = _inverse_root(x, max(_UNSCALED, _SHORT * min(1.0, 64 / max(x.shape[-1], 1))))
    return None if rest is None else _add_product(x, x, rest, out=out)


def bounded_polar(x: Tensor, longest: float, out: Tensor | None = None) -> Tensor:
    """Polar factor of a frame moved along a tangent vector of a known length; reads nothing back.

    Parameters
    ----------
    x : Tensor
        (..., n, r), n >= r.
    longest : float
        At most `LONGEST`: bound on the Frobenius norm of the tangent vectors.
    out : Tensor, optional
        (B, n, r), gets the result of an X of that shape; not X itself.

    Returns
    -------
    Tensor
        (..., n, r). Of an X that was moved further: a matrix closer to orthonormal, with the same polar factor.
    """
    rest = _from_afar(_half_distance(x), _orders(_lowest(longest**2 + _DRIFT), x.dtype))
    return _add_product(x, x, rest, out=out)


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
    The Gram matrix of a long step loses digits in proportion to the square of its length. Float64 has some to spare for
    a float32 result; where they run out, `nearest_frame` takes over and loses none.
    """
    spare = 0.01 * torch.finfo(dtype).eps / torch.finfo(x.dtype).eps
    rest = _inverse_root(x, spare)
    return (nearest_frame(x) if rest is None else _add_product(x, x, rest)).to(dtype)


def _inverse_root(x: Tensor, farthest: float) -> Tensor | None:
    """(X^T X)^{-1/2} - I for X^T X within `farthest` of I; None beyond.

    Coupled Newton-Schulz (Higham, Functions of Matrices, Section 6.7, problem 6.26): with Z -> G^{-1/2} and
    M = I - 2 E -> I, both are multiplied by I + E + 3 E^2 / 2. A matrix far from I is first scaled into (0, 2), so
    the iteration always converges. The number of steps, and whether the last needs E^2, follow from the bound on
    ||G - I|| = 2 ||E||, so the loop reads back no residual. The result is a symmetric function of G, hence commutes
    with rotations G -> Q^T G Q.
    """
    half = _half_distance(x)
    bound = torch.linalg.matrix_norm(half)
    if torch.compiler.is_compiling() or bound.numel() == 0:
        return _from_afar(half, [3] * _COMPILED_STEPS)
    largest = 2 * float(bound.detach().max())
    if not largest <= _ONE_STEP:
        largest = 2 * float(_size(half).detach().max())
    if not largest <= farthest:
        return None
    if largest <= _UNSCALED:
        return _iterate(half, _orders(1 - largest, x.dtype))
    return _from_afar(half, _orders(_lowest(largest), x.dtype))


def _half_distance(x: Tensor) -> Tensor:
    """E of I - 2 E = X^T X."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return torch.baddbmm(eye, x.mT, x, beta=0.5, alpha=-0.5) if x.ndim == 3 else (eye - x.mT @ x) / 2


def _size(half: Tensor) -> Tensor:
    """Bound on ||E||: its Frobenius norm, or its largest row sum where that may save a step."""
    return torch.minimum(torch.linalg.matrix_norm(half), half.abs().sum(-1).amax(-1))


def _lowest(distance: float) -> float:
    """Bound from below on the eigenvalues of G within a distance of I, once it is scaled."""
    return max(1 - distance, 0.5) / (1 + distance / 2)


def _from_afar(half: Tensor, orders: Sequence[int]) -> Tensor:
    """(I - 2 E)^{-1/2} - I for E of any size, scaled first."""
    eye = torch.eye(half.shape[-1], dtype=half.dtype, device=half.device)
    scale = 1 + _size(half)[..., None, None]
    return (_iterate(torch.lerp(0.5 * eye, half, 1 / scale), orders) + eye) / scale.sqrt() - eye


def _iterate(half: Tensor, orders: Sequence[int]) -> Tensor:
    """(I - 2 E)^{-1/2} - I by steps of the given orders of convergence.

    No intermediate is as large as I, so that rounding errors are relative to E.
    """
    total: Tensor | None = None
    for number, order in enumerate(orders, start=1):
        if number == len(orders):
            factor = half if order == 2 else _add_product(half, half, half, 1.5)
        else:
            square = half @ half
            factor = torch.add(half, square, alpha=1.5)
            # Half of I - (I - 2 E) (I + factor)^2, multiplied out
            half = square @ _add_product(torch.add(half, square, alpha=0.75), square, half, 2.25, beta=2.5)
        total = factor if total is None else _add_product(total + factor, total, factor)
    assert total is not None
    return total


def _add_product(
    c: Tensor, a: Tensor, b: Tensor, alpha: float = 1.0, beta: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """Compute beta C + alpha A B."""
    if c.ndim == 3:
        return torch.baddbmm(c, a, b, alpha=alpha, beta=beta, out=out)
    return beta * c + alpha * (a @ b)


def _orders(low: float, dtype: torch.dtype) -> list[int]:
    """Orders of the steps that reduce the error below rounding, from the scalar iteration at the lower end."""
    tolerance = torch.finfo(dtype).eps
    orders: list[int] = []
    while len(orders) < _MAX_STEPS:
        deviation = 1 - low
        # Error that the step leaves in the inverse square root: the first term of the series that it drops
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
    Commutes with rotations on either side: polar(P X Q) = P polar(X) Q, so gauge moves pass through it.

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
    found = short_polar(x)
    return long_polar(x.double(), x.dtype) if found is None else found


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
    # Scaled twice: squares of the entries may overflow float64 even if the entries do not
    scaled = _over(x.double(), x.double().abs().amax((-2, -1), keepdim=True))
    y = scaled = _over(scaled, torch.linalg.matrix_norm(scaled, keepdim=True))
    eye = torch.eye(x.shape[-1], dtype=y.dtype, device=x.device)
    tolerance = 4 * x.shape[-1] * torch.finfo(y.dtype).eps
    for _ in range(_MAX_STEPS):
        deviation = y.mT @ y - eye
        if float(deviation.detach().abs().max()) < tolerance:
            return y.to(x.dtype)
        y = y + y @ torch.sub(3 / 8 * (deviation @ deviation), deviation, alpha=0.5)
    full = (y.mT @ y - eye).abs().amax((-2, -1), keepdim=True) < 1e-3
    q, r = torch.linalg.qr(scaled)
    return torch.where(full, y, q * _sign(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)).to(x.dtype)


def _over(x: Tensor, size: Tensor) -> Tensor:
    return x / torch.where(size > 0, size, torch.ones_like(size))


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
