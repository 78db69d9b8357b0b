"""The polar factor by Newton-Schulz iteration: matrix products only, no QR and no SVD."""

from __future__ import annotations

import torch
from torch import Tensor

_COMPILED_STEPS = 12
_MAX_STEPS = 60


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

    Notes
    -----
    Coupled Newton-Schulz of order three (Higham, Functions of Matrices, Section 6.7, problem 6.26): with Z -> G^{-1/2}
    and M = Y Z -> I, both are multiplied by (15 I - 10 M + 3 M^2) / 8. The matrix is first scaled into (0, 2), so the
    iteration always converges; how many steps it takes is known from the bound on ||G - I||, so no residual is read
    back in the loop. The whole is a symmetric function of G, hence commutes with rotations G -> Q^T G Q.
    """
    r = gram.shape[-1]
    eye = torch.eye(r, dtype=gram.dtype, device=gram.device)
    deviation = gram - eye
    bound = torch.minimum(
        torch.linalg.matrix_norm(deviation, keepdim=True),
        deviation.abs().sum(-1, keepdim=True).amax(-2, keepdim=True),
    )
    scale = 1 + bound / 2
    m = gram / scale
    z: Tensor | None = None
    for _ in range(_steps(bound, gram.dtype)):
        factor = torch.baddbmm(15 / 8 * eye - 10 / 8 * m, m, m, alpha=3 / 8) if m.ndim == 3 else _factor(m, eye)
        z = factor if z is None else z @ factor
        m = _square(m, factor)
    assert z is not None
    return z / scale.sqrt()


def _factor(m: Tensor, eye: Tensor) -> Tensor:
    return 15 / 8 * eye - 10 / 8 * m + 3 / 8 * (m @ m)


def _square(m: Tensor, factor: Tensor) -> Tensor:
    # All factors are polynomials of one symmetric matrix, so they commute; the order below keeps m symmetric.
    return factor @ m @ factor


def _steps(bound: Tensor, dtype: torch.dtype) -> int:
    """Steps until the deviation from I is below rounding, from the scalar iteration at the lower end."""
    if torch.compiler.is_compiling() or bound.numel() == 0:
        return _COMPILED_STEPS
    delta = float(bound.max())
    if not delta < float("inf"):
        raise ValueError("a frame or its step holds NaN or infinite values; lower the learning rate")
    low, tolerance, steps = max(1 - delta, 0.5) / (1 + delta / 2), torch.finfo(dtype).eps, 1
    while steps < _MAX_STEPS:
        low *= ((15 - 10 * low + 3 * low * low) / 8) ** 2
        if 1 - low < tolerance:
            break
        steps += 1
    return steps


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

    Notes
    -----
    Commutes with rotations on either side: polar(P X Q) = P polar(X) Q, which is what lets gauge moves pass.
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
    Newton-Schulz on X itself, X (15 I - 10 X^T X + 3 (X^T X)^2) / 8: slower than `polar`, but each step corrects
    the rounding of those before, whatever the condition number.
    """
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    y = x / torch.where(norm > 0, norm, torch.ones_like(norm))
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    tolerance = 4 * x.shape[-1] * torch.finfo(x.dtype).eps
    for _ in range(_MAX_STEPS):
        gram = y.mT @ y
        if y.numel() == 0 or float((gram - eye).abs().max()) < tolerance:
            return y
        y = y @ _factor(gram, eye)
    full = ((y.mT @ y - eye).abs().amax((-2, -1), keepdim=True) < 1e-3) if y.numel() else eye
    q, r = torch.linalg.qr(x)
    return torch.where(full, y, q * _sign(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2))


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
