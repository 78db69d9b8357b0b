"""Frames as products of Householder reflections, in batched compact WY form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.compat import in_transform
from sttp_riemann.frames.frame import Frames
from sttp_riemann.trains.contraction import Pull
from sttp_riemann.trains.shape import Core


def compact_wy(reflectors: Tensor, signs: Tensor | None = None) -> Tensor:
    """First r columns of the product of r Householder reflections.

    Parameters
    ----------
    reflectors : Tensor
        (B, d, r), column j unit lower triangular: zero above row j and 1 in row j.
    signs : Tensor, optional
        (B, r), a factor of each column; not differentiated.

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
    triangular solve. The backward keeps H and one r x r matrix pair and needs three products of size d r^2.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.frames.householder import compact_wy
    >>> reflectors = torch.randn(2, 5, 3, dtype=torch.float64).tril(-1) + torch.eye(5, 3)
    >>> frames = compact_wy(reflectors)
    >>> torch.allclose(frames.mT @ frames, torch.eye(3, dtype=torch.float64))
    True
    """
    _, rows, columns = reflectors.shape
    if columns > rows:
        raise ValueError(f"reflectors of {rows} rows make at most {rows} orthonormal columns, not {columns}")
    if in_transform() or not reflectors.requires_grad:
        return _forward(reflectors, signs)[0]
    found: Tensor = _CompactWY.apply(reflectors, signs)
    return found


def _forward(h: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    # `bmm` and `add_` where `@` and `+=` read better: on small cores a call costs more than its arithmetic.
    t_inverse = torch.bmm(h.mT, h)  # only its upper triangle is used
    # An error in |h|^2 is one in the frame: summed in float64, it leaves float32 frames orthonormal to 2e-7, not 1e-6.
    half_squared_norm = (h * h).sum(-2, dtype=torch.float64).mul_(0.5)
    t_inverse.diagonal(0, 1, 2).copy_(half_squared_norm)
    m = torch.linalg.solve_triangular(t_inverse, h[:, : h.shape[-1]].mT, upper=True)
    m = m.neg() if signs is None else m * signs.neg().unsqueeze(-2)
    q = torch.bmm(h, m)
    q.diagonal(0, 1, 2).add_(1 if signs is None else signs)
    return q, t_inverse, m


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
            return torch.autograd.grad(_forward(h, signs)[0], h, grad, create_graph=True)[0], None
        return _backward(h, t_inverse, m, signs, grad), None


def _backward(h: Tensor, t_inverse: Tensor, m: Tensor, signs: Tensor | None, grad: Tensor) -> Tensor:
    """Gradient of the reflectors from that of the frames."""
    # Q = E D + H M, T^{-1} M = -H_top^T D, T^{-1} = striu(S) + diag(S) / 2, S = H^T H, D the signs.
    grad_m = torch.linalg.solve_triangular(t_inverse.mT, torch.bmm(h.mT, grad), upper=False)
    grad_gram = torch.bmm(grad_m, m.mT).triu_()
    # The diagonal of S counts half in T^{-1} and twice in S + S^T, so it enters once.
    grad_gram.diagonal(0, 1, 2).mul_(0.5)
    out = torch.bmm(grad, m.mT).baddbmm_(h, grad_gram + grad_gram.mT, alpha=-1)
    top = out[:, : h.shape[-1]]
    if signs is None:
        top.sub_(grad_m.mT)
    else:
        top.addcmul_(grad_m.mT, signs.unsqueeze(-1), value=-1)
    return out


def reflectors_of(frames: Tensor, signs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Reflectors and column signs that reproduce given frames exactly.

    Parameters
    ----------
    frames : Tensor
        (B, d, r), orthonormal columns.
    signs : Tensor, optional
        (B, r), the signs to use; by default, and where one is 0, those that give short reflectors.

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
    if signs is not None:
        return _signed_reflectors(frames, signs)
    packed, tau = torch.geqrf(frames)
    r = frames.shape[-1]
    reflectors = packed.tril(-1)
    reflectors.diagonal(dim1=-2, dim2=-1).fill_(1)
    diagonal = packed[..., :r, :].diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(frames.dtype)
    # LAPACK leaves a reflection out where there is nothing to annihilate; ours always reflects, which flips the sign.
    return reflectors, torch.where(tau == 0, -signs, signs)


def _signed_reflectors(frames: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Reflectors for given signs, column by column; LAPACK chooses the signs itself."""
    rest, reflectors, signs = frames.clone(), torch.zeros_like(frames), signs.clone()
    tiny = torch.finfo(frames.dtype).eps
    for j in range(frames.shape[-1]):
        short = torch.where(rest[:, j, j] < 0, 1.0, -1.0).to(signs)
        signs[:, j] = torch.where(signs[:, j] == 0, short, signs[:, j])
        length = rest[:, j, j] - signs[:, j]
        # Nothing to reflect: the exact reflector is infinitely long
        length = torch.where(length.abs() < tiny, -tiny * signs[:, j], length)
        own = reflectors[:, j:, j]
        own.copy_(rest[:, j:, j] / length.unsqueeze(-1))
        own[:, 0] = 1
        scale = (-length * signs[:, j])[:, None, None]  # 2 / |v|^2
        rest[:, j:, j:] -= scale * own.unsqueeze(-1) * (own.unsqueeze(1) @ rest[:, j:, j:])
    return reflectors, signs


class HouseholderFrames(Frames):
    """Each frame is stored as the free entries of its reflectors, and the signs of its columns as ``sign_k`` (rank,).

    For a frame of St_U, the parameter is (rows - rank, rank): the entries below the leading block, which is the
    identity. For a frame of St it is a vector: the same entries row by row, then the strictly lower triangle of the
    leading block. A frame without free entries has no parameter, so the stored numbers are exactly the degrees of
    freedom.

    Notes
    -----
    Obukhov et al. 2021 train reflectors; the stored signs are ours, so that every frame converts exactly.
    """

    canonical = True
    direct = False

    @staticmethod
    def key(core: Core) -> str:
        """Shape, and whether the core is in St_U."""
        return f"{core.rows}x{core.inner}{' reduced' if core.reduced else ''}"

    @staticmethod
    def components(core: Core) -> int:
        """Signs, and the entries if there are any."""
        return 2 if core.dof else 1

    @staticmethod
    def numbers(core: Core) -> int:
        """As many as the frame has degrees of freedom."""
        return core.dof

    def hold(self, k: int, frame: Tensor) -> None:
        """Register the entries and signs, and store the frame."""
        core = self.cores[k]
        shape = (core.rows - core.inner, core.inner) if core.reduced else (core.dof,)
        self.register_parameter(str(k), nn.Parameter(frame.new_empty(shape)) if core.dof else None)
        self.register_buffer(f"sign_{k}", frame.new_empty(core.inner))
        if not frame.is_meta:
            self.assign_(k, frame)

    def tensors(self, k: int) -> tuple[Tensor, ...]:
        """Signs, and the entries if there are any."""
        sign, entries = self._buffers[f"sign_{k}"], self._parameters.get(str(k))
        assert sign is not None
        if entries is None and self.cores[k].dof:
            # Replicas of `nn.DataParallel` have attributes instead of parameters
            entries = getattr(self, str(k))
        return (sign,) if entries is None else (sign, entries)

    @staticmethod
    def materialize(core: Core, *stacks: Tensor) -> Tensor:
        """Multiply the reflections."""
        return compact_wy(_reflectors(core, *stacks), stacks[0])

    @staticmethod
    def trace(core: Core, *stacks: Tensor) -> tuple[Tensor, Pull]:
        """Multiply the reflections, and differentiate them in the compact WY form."""
        reflectors, sign = _reflectors(core, *stacks), stacks[0]
        frames, t_inverse, m = _forward(reflectors, sign)

        def pull(grad: Tensor) -> Sequence[Tensor | None]:
            if len(stacks) == 1:
                return (None,)
            of_reflectors = _backward(reflectors, t_inverse, m, sign, grad)
            below = of_reflectors[:, core.inner :]
            if core.reduced:
                return None, below
            # The leading block comes first in memory
            triangle = of_reflectors.flatten(1).index_select(1, _constants(core.inner, grad)[1])
            return None, torch.cat([below.flatten(1), triangle], 1)

        return frames, pull

    @torch.no_grad()
    def assign_(self, k: int, frame: Tensor, signs: Tensor | None = None) -> None:
        """Store a frame, with the given signs if there are any, as `reflectors_of` takes them."""
        core, sign, parameter = self.cores[k], self.tensors(k)[0], self[k]
        reflectors, signs = reflectors_of(frame.unsqueeze(0), None if signs is None else signs.unsqueeze(0))
        sign.copy_(signs[0])
        if parameter is not None:
            below = reflectors[0, core.inner :]
            if core.reduced:
                parameter.copy_(below)
            else:
                row, column = torch.tril_indices(core.inner, core.inner, -1, device=frame.device)
                parameter.copy_(torch.cat([below.flatten(), reflectors[0, row, column]]))


def _reflectors(core: Core, sign: Tensor, *entries: Tensor) -> Tensor:
    """(B, rows, rank), unit lower triangular, from the free entries."""
    eye, places = _constants(core.inner, sign)
    block = eye.expand(len(sign), -1, -1)
    if not entries:
        return block
    (below,) = entries
    if not core.reduced:
        free = (core.rows - core.inner) * core.inner
        below, triangle = below[:, :free].unflatten(1, (-1, core.inner)), below[:, free:]
        if core.inner > 1:
            block = block.flatten(1).index_copy(1, places, triangle).view_as(block)
    return torch.cat([block, below], 1) if core.rows > core.inner else block


_CONSTANTS: dict[tuple[int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}


def _constants(rank: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """I, and where the entries below the diagonal lie in such a matrix, row by row."""
    # A tracer's tensors, and those without numbers, must not outlive it
    if type(like) is not Tensor or like.is_meta or in_transform():
        return _new_constants(rank, like)
    key = rank, like.dtype, like.device
    if key not in _CONSTANTS:
        # Training uses what was made in inference mode, too
        with torch.inference_mode(False):
            _CONSTANTS[key] = _new_constants(rank, like)
    return _CONSTANTS[key]


def _new_constants(rank: int, like: Tensor) -> tuple[Tensor, Tensor]:
    row, column = torch.tril_indices(rank, rank, -1, device=like.device)
    return torch.eye(rank, dtype=like.dtype, device=like.device), row * rank + column
