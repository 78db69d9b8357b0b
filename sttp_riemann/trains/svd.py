"""TT-SVD: a dense matrix as orthonormal cores around its spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.checks import LARGEST
from sttp_riemann.trains.shape import Core, LayerShape, Train

RIDGE = 1e-3
"""Share of the mean squared input that is added to every direction."""
LARGE = 256
"""Least smaller side of a matrix that is decomposed by subspace iteration."""
SETTLED, ROUNDS = 1e-4, 24


def tt_svd(weight: Tensor, shape: LayerShape, root: Tensor | None = None) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Approximate a dense matrix by orthonormal cores around a diagonal spectrum.

    Each inner bond is truncated optimally (to the leading singular vectors of the matrix at that bond); then the
    matrix, projected to what the inner cores span, is cut at the spectrum. Exact where the TT-ranks are large enough.

    Parameters
    ----------
    weight : Tensor
        (d_out, d_in), any floating dtype; the work is done in float64.
    shape : LayerShape
        Modes and ranks.
    root : Tensor, optional
        (d_in, d_in), invertible L with L L^T = E[x x^T] for the inputs x of the layer; see `moment_root`. With it, the
        error that is kept small is that of the layer's outputs, E |(W - U diag(s) V^T) x|^2, not that of its weight.

    Returns
    -------
    left : list of Tensor
        Float64 matricized cores of U, as `contract` takes them.
    spectrum : Tensor
        (rank,), float64, descending.
    right : list of Tensor
        The cores of V.

    Raises
    ------
    ValueError
        If the weight holds NaN or infinite values.

    Notes
    -----
    After the TT-SVD of Oseledets 2011, "Tensor-Train Decomposition", from both ends towards the spectrum. With one core
    a side the error of the outputs is the smallest possible, by Eckart and Young for W L; inner cores of V are found
    from the weight of that optimum.
    """
    if not torch.isfinite(weight).all():
        raise ValueError("the weight holds NaN or infinite values, so it has no singular value decomposition")
    if weight.numel() and float(weight.detach().abs().max()) > LARGEST:
        raise ValueError(f"the weight holds values beyond {LARGEST:g}")
    weight = weight.detach().double()
    outputs = weight if root is None else weight @ root
    u, s, v = leading_svd(outputs, shape.rank)
    if len(shape.left.cores) == len(shape.right.cores) == 1:
        return ([u], s, [v]) if root is None else _unweighed(u, s, v, root)
    left = _inner_cores(shape.left, u * s)
    right = _inner_cores(shape.right, weight.mT @ u)
    middle = _project(shape.left, left, outputs)
    if root is None:
        middle = _project(shape.right, right, middle.mT).mT
    else:
        middle = _least_squares(_project(shape.right, right, root), middle, shape.rank)
    u, s, v = leading_svd(middle, shape.rank)
    if not shape.left.cores:
        # U is the identity: its rotation passes through the identity spectrum into V.
        return left, s, [*right, v @ u.mT]
    left = [*left, u]
    return (left, s, [*right, v]) if shape.right.cores else (left, s, right)


def leading_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular vectors and values of a matrix.

    Parameters
    ----------
    matrix : Tensor
        (m, n), float64.
    rank : int
        How many; at most m and n.

    Returns
    -------
    u : Tensor
        (m, rank).
    s : Tensor
        (rank,), descending.
    v : Tensor
        (n, rank).

    Notes
    -----
    Of a large matrix and a low rank by subspace iteration from a random start (Halko, Martinsson and Tropp 2011,
    Algorithm 4.4), until a further round takes off less than `SETTLED` of the squared error that is left; where that
    is not so after `ROUNDS` rounds, and for all other matrices, by a decomposition of the triangular factor. The start
    is always the same.
    """
    smaller, width = min(matrix.shape), rank + max(16, rank // 2)
    if smaller >= LARGE and 4 * width <= smaller:
        start = torch.randn(matrix.shape[1], width, dtype=matrix.dtype, generator=torch.Generator().manual_seed(0))
        rows = torch.linalg.qr(start.to(matrix.device))[0]
        total, before = matrix.square().sum(), matrix.new_zeros(())
        for _ in range(ROUNDS):
            columns, small = torch.linalg.qr(matrix @ rows)
            u, s, vh = torch.linalg.svd(small)
            kept = s[:rank].square().sum()
            if kept - before <= SETTLED * (total - kept) + torch.finfo(s.dtype).eps * total:
                return columns @ u[:, :rank], s[:rank], rows @ vh[:rank].mT
            before, rows = kept, torch.linalg.qr(matrix.mT @ columns)[0]
    # Several times faster than the decomposition of the whole, of whose other vectors nothing is wanted
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = torch.linalg.qr(matrix.mT if wide else matrix)
    u, s, vh = torch.linalg.svd(r, full_matrices=False)
    left, right = q @ u[:, :rank], vh[:rank].mT
    return (right, s[:rank], left) if wide else (left, s[:rank], right)


def moment_root(moment: Tensor) -> Tensor:
    """Cholesky factor of a layer's second moment, regularized to be safely positive definite.

    Parameters
    ----------
    moment : Tensor
        (d_in, d_in), E[x x^T] of the inputs x.

    Returns
    -------
    Tensor
        (d_in, d_in), float64, lower triangular L with L L^T = E[x x^T] + a thousandth of its mean diagonal entry, so
        that directions which no input had still count a little.

    Raises
    ------
    ValueError
        If the moment is not finite, or has negative eigenvalues.
    """
    if not torch.isfinite(moment).all():
        raise ValueError("the moment holds NaN or infinite values")
    moment = moment.detach().double()
    mean = float(moment.diagonal().mean())
    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    # Inputs that were all zero carry no information
    if not moment.any():
        return eye
    root, failed = torch.linalg.cholesky_ex(moment + RIDGE * mean * eye)
    if mean <= 0 or failed:
        raise ValueError("the moment is not a second moment: it has negative eigenvalues")
    return root


def _unweighed(u: Tensor, s: Tensor, v: Tensor, root: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Decompose U diag(s) V^T L^{-1}, without its matrix."""
    rows, small = torch.linalg.qr(torch.linalg.solve_triangular(root.mT, v * s, upper=True))
    left, values, right = torch.linalg.svd(small.mT)
    return [u @ left], values, [rows @ right.mT]


def _least_squares(basis: Tensor, target: Tensor, rank: int) -> Tensor:
    """Matrix M of the given rank for which M ``basis`` is nearest to ``target``."""
    q, r = torch.linalg.qr(basis.mT)
    u, s, vh = torch.linalg.svd(target @ q, full_matrices=False)
    nearest = (u[:, :rank] * s[:rank]) @ vh[:rank]
    return torch.linalg.solve_triangular(r.mT, nearest, upper=False, left=False)


def unfold(train: Train, core: Core, matrix: Tensor) -> Tensor:
    """Split (dims, m) into (rows of `core`, everything else): the outermost dims are the core's rows."""
    if train.side == "left":
        return matrix.reshape(core.rows, -1)
    return matrix.reshape(-1, core.rows, matrix.shape[-1]).movedim(1, 0).reshape(core.rows, -1)


def fold(train: Train, rank: int, matrix: Tensor, columns: int) -> Tensor:
    """Undo `unfold` after the core's rows became one rank index."""
    if train.side == "left":
        return matrix.reshape(-1, columns)
    return matrix.reshape(rank, -1, columns).movedim(0, 1).reshape(-1, columns)


def _inner_cores(train: Train, matrix: Tensor) -> list[Tensor]:
    cores, columns = [], matrix.shape[-1]
    for core in train.cores[:-1]:
        unfolded = unfold(train, core, matrix)
        # Only the left vectors are wanted, which those of a triangular factor are
        small = torch.linalg.qr(unfolded.mT, mode="r")[1].mT if unfolded.shape[0] < unfolded.shape[1] else unfolded
        u = torch.linalg.svd(small, full_matrices=False)[0]
        if u.shape[1] < core.inner:  # the matrix has lower rank than asked for: complete its basis
            u = torch.linalg.qr(torch.cat([u, torch.eye(core.rows, core.inner, dtype=u.dtype)], 1))[0]
        frame = u[:, : core.inner]
        cores.append(frame)
        matrix = fold(train, core.inner, frame.mT @ unfolded, columns)
    return cores


def _project(train: Train, cores: Sequence[Tensor], matrix: Tensor) -> Tensor:
    columns = matrix.shape[-1]
    for core, frame in zip(train.cores, cores, strict=False):
        matrix = fold(train, core.inner, frame.mT @ unfold(train, core, matrix), columns)
    return matrix
