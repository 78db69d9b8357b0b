"""Frames as products of Householder reflections, in batched compact WY form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.frames import tiny
from sttp_riemann.frames.bank import Bank
from sttp_riemann.reuse import in_transform
from sttp_riemann.tt import Core


def compact_wy(reflectors: Tensor, signs: Tensor | None = None) -> Tensor:
    """First r columns of the product of r Householder reflections.

    Parameters
    ----------
    reflectors : Tensor
        (B, d, r), column j unit lower triangular: zero above row j and 1 in row j.
    signs : Tensor, optional
        (B, r), each column is multiplied by; not differentiated.

    Returns
    -------
    Tensor
        (B, d, r), orthonormal columns: I_{d x r} - H T H_top^T with T^{-1} = striu(H^T H) + diag(H^T H) / 2.

    Raises
    ------
    ValueError
        There are more columns than rows.

    Notes
    -----
    Schreiber and Van Loan 1989; Joffrain et al. 2006 for T through the Gram matrix. Matrix products and one
    triangular solve. The backward keeps H and one r x r matrix pair and needs three products of size d r^2. Tiny
    batches go through one compiled loop: `sttp_riemann.frames.tiny`.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.frames.householder import compact_wy
    >>> reflectors = torch.randn(2, 5, 3, dtype=torch.float64).tril(-1) + torch.eye(5, 3)
    >>> frames = compact_wy(reflectors)
    >>> torch.allclose(frames.mT @ frames, torch.eye(3, dtype=torch.float64))
    True
    """
    tiny.check_shape(reflectors)
    if in_transform():
        return _operators(reflectors, signs)[0]
    return _CompactWY.apply(reflectors, signs) if reflectors.requires_grad else _forward(reflectors, signs)[0]


def _forward(h: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return tiny.forward(h, signs) if tiny.fits(h) else _operators(h, signs)


def _operators(h: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    # `bmm` and `add_` where `@` and `+=` read better: on small cores a call costs more than its arithmetic.
    t_inverse = torch.bmm(h.mT, h)  # of which the upper triangle counts
    # An error of |h|^2 is one of the frame: summed wide, it keeps float32 frames orthonormal to 2e-7, not 1e-6.
    half_squared_norm = (h * h).sum(-2, dtype=torch.float64).mul_(0.5)
    t_inverse.diagonal(0, 1, 2).copy_(half_squared_norm)
    top = h[:, : h.shape[-1]]
    m = _signed(torch.linalg.solve_triangular(t_inverse, top.mT, upper=True), signs).neg()
    q = torch.bmm(h, m)
    q.diagonal(0, 1, 2).add_(1 if signs is None else signs)
    return q, t_inverse, m


def _signed(matrix: Tensor, signs: Tensor | None) -> Tensor:
    return matrix if signs is None else matrix * signs.unsqueeze(-2)


class _CompactWY(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, signs: Tensor | None) -> Tensor:
        q, t_inverse, m = _forward(h, signs)
        ctx.save_for_backward(h, t_inverse, m, signs)
        return q

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        h, t_inverse, m, signs = ctx.saved_tensors
        if torch.is_grad_enabled():  # asked for a graph of the gradient: leave it to autograd
            return torch.autograd.grad(_operators(h, signs)[0], h, grad, create_graph=True)[0], None
        if tiny.fits(h):
            return tiny.backward(h, signs, t_inverse, m, grad), None
        # Q = E D + H M, T^{-1} M = -H_top^T D, T^{-1} = striu(S) + diag(S) / 2, S = H^T H, D the signs.
        grad_m = _signed(torch.bmm(h.mT, grad), signs)
        grad_top = torch.linalg.solve_triangular(t_inverse.mT, grad_m, upper=False)  # minus that of H_top^T
        grad_gram = torch.bmm(grad_top, _signed(m, signs).mT).triu_()
        # The diagonal of S counts half in T^{-1} and twice in S + S^T, so it enters once.
        grad_gram.diagonal(0, 1, 2).mul_(0.5)
        out = torch.bmm(grad, m.mT).baddbmm_(h, grad_gram + grad_gram.mT, alpha=-1)
        out[:, : h.shape[-1]].sub_(grad_top.mT)
        return out, None


def reflectors_of(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Reflectors and column signs that reproduce given frames exactly.

    Parameters
    ----------
    frames : Tensor
        (B, d, r), orthonormal columns.

    Returns
    -------
    reflectors : Tensor
        (B, d, r), unit lower triangular.
    signs : Tensor
        (B, r), plus or minus one, with ``compact_wy(reflectors) * signs[:, None] == frames`` up to rounding.

    Notes
    -----
    LAPACK's QR factorization, whose packed lower part is the reflectors.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.frames.householder import compact_wy, reflectors_of
    >>> frames = torch.linalg.qr(torch.randn(2, 5, 3, dtype=torch.float64)).Q
    >>> reflectors, signs = reflectors_of(frames)
    >>> torch.allclose(compact_wy(reflectors, signs), frames)
    True
    """
    packed, tau = torch.geqrf(frames)
    r = frames.shape[-1]
    reflectors = packed.tril(-1)
    reflectors.diagonal(dim1=-2, dim2=-1).fill_(1)
    diagonal = packed[..., :r, :].diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(frames.dtype)
    # LAPACK leaves a reflection out where there is nothing to annihilate; ours always reflects, which flips the sign.
    return reflectors, torch.where(tau == 0, -signs, signs)


class HouseholderBank(Bank):
    """Frames as the free entries of their reflectors, and a buffer for the sign of each column.

    ``below`` (B, rows - rank, rank) is the part under the leading block. ``top`` (B, rank (rank - 1) / 2) is the
    leading block's strictly lower triangle; frames of St_U have the identity there and store none. What has no entries
    is no parameter, so the numbers kept are exactly the degrees of freedom.

    Parameters
    ----------
    frames : Tensor
        (B, rows, rank), orthonormal columns, any signs.
    reduced : bool
        Whether all of them are in St_U.

    Notes
    -----
    Obukhov et al. 2021 train reflectors; the stored signs are ours, so that every frame converts exactly.
    """

    canonical = True
    below: nn.Parameter | None
    top: nn.Parameter | None
    sign: Tensor

    def __init__(self, frames: Tensor, reduced: bool) -> None:
        super().__init__()
        batch, rows, rank = frames.shape
        self.rank, self.reduced = rank, reduced
        self.below = nn.Parameter(frames.new_empty(batch, rows - rank, rank)) if rows > rank else None
        entries = 0 if reduced else rank * (rank - 1) // 2
        self.top = nn.Parameter(frames.new_empty(batch, entries)) if entries else None
        self.register_buffer("sign", frames.new_empty(batch, rank))
        self.assign_(frames)

    @staticmethod
    def key(core: Core) -> str:
        """Shape, and whether the core is in St_U.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        str
            ``st_ROWSxRANK``, or ``st_u_ROWSxRANK`` for a reduced core.
        """
        return f"{'st_u' if core.reduced else 'st'}_{core.rows}x{core.inner}"

    @staticmethod
    def numbers(core: Core) -> int:
        """As many as the frame has degrees of freedom.

        Parameters
        ----------
        core : Core
            Shape of a core.

        Returns
        -------
        int
            Dimension of St or St_U.
        """
        return core.dof

    def tensors(self) -> tuple[Tensor, ...]:
        """Signs, then the entries below and in the leading block, as far as there are any.

        Returns
        -------
        tuple of Tensor
            Signs (B, rank), `below` (B, rows - rank, rank) and `top` (B, rank (rank - 1) / 2).
        """
        return tuple(t for t in (self.sign, self.below, self.top) if t is not None)

    def materialize(self, *tensors: Tensor) -> Tensor:
        """Frames from signs and reflector entries.

        Parameters
        ----------
        *tensors : Tensor
            Shaped as those of `tensors`.

        Returns
        -------
        Tensor
            (B, rows, rank), orthonormal columns.
        """
        sign, entries = tensors[0], list(tensors[1:])
        below = entries.pop(0) if self.below is not None else None
        block = torch.eye(self.rank, dtype=sign.dtype, device=sign.device).expand(sign.shape[0], -1, -1)
        if self.top is not None:
            block = _with_lower_triangle(block, entries.pop(0))
        reflectors = block if below is None else torch.cat([block, below], 1)
        return compact_wy(reflectors, sign)

    @torch.no_grad()
    def assign_(self, frames: Tensor) -> None:
        """Take over frames; those of a reduced bank must be in St_U.

        Parameters
        ----------
        frames : Tensor
            (B, rows, rank), orthonormal columns.
        """
        reflectors, sign = reflectors_of(frames)
        self.sign.copy_(sign)
        if self.below is not None:
            self.below.copy_(reflectors[:, self.rank :])
        if self.top is not None:
            row, column = torch.tril_indices(self.rank, self.rank, -1, device=frames.device)
            self.top.copy_(reflectors[:, row, column])


def _with_lower_triangle(block: Tensor, entries: Tensor) -> Tensor:
    rank = block.shape[-1]
    row, column = torch.tril_indices(rank, rank, -1, device=entries.device)
    flat = block.reshape(block.shape[0], -1).index_copy(1, row * rank + column, entries)
    return flat.view_as(block)
