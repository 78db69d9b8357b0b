"""Adam's entries in the eigenbases of the Gram moments over the rank indices of a core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, averaged_square, entries_in
from sttp_riemann.optim.stepping import projected
from sttp_riemann.trains.shape import absorb

REFRESH = 10
"""Steps between eigendecompositions."""
TIE = 1e-13
"""Eigenvalues this close, as a part of the largest, count as equal."""


class CoresMoment(Moment):
    """Adam entry by entry, in bases that turn with the gauge: "SOAP on cores".

    A core (outer, mode, inner) has one Gram moment of its gradients over each rank index, decayed as the second moment
    is. In their eigenbases, found anew every `REFRESH` steps, every entry has a second moment of its own. The mode is
    not turned, as no gauge move turns it. A frame that is no core of a train has the inner index alone.

    Notes
    -----
    Vyas et al. 2024, "SOAP", for the eigenbases. Where eigenvalues coincide, the basis is arbitrary: entries then share
    the mean of their second moments, which does not depend on it. When bases change, second moments follow as those of
    uncorrelated entries do.
    """

    by_core = True

    @staticmethod
    @override
    def shapes(shape: torch.Size, manifold: Any) -> dict[str, tuple[int, ...]]:
        batch = shape[:-2]
        found: dict[str, tuple[int, ...]] = {"exp_avg_sq": tuple(shape)}
        for index, rank in (("outer", manifold.outer), ("inner", shape[-1])):
            if index == "inner" or rank > 1:
                found.update({f"{index}_{name}": (*batch, rank, rank) for name in ("gram", "basis")})
                found[f"{index}_values"] = (*batch, 1, rank)
        return found

    @staticmethod
    @override
    def direct(
        manifold: Any, x: Tensor, tangent: Tensor, kept: dict[str, Tensor], step: int, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        indices = ("outer", "inner") if manifold.outer > 1 else ("inner",)
        for index in indices:
            _take_in(kept, f"{index}_gram", _unfolded(tangent, manifold, index), 1 - group["betas"][1])
        if step % REFRESH == 1 or "inner_basis" not in kept:
            _refresh(kept, indices, manifold)
        outer, inner = kept.get("outer_basis"), kept["inner_basis"]
        square = _turned(tangent, outer, inner, manifold).square_()
        shares = [_shares(kept[f"{index}_values"]) for index in indices]
        if any(share is not None for share in shares):
            square = _turned(square, shares[0] if outer is not None else None, shares[-1], manifold)
        denominator = averaged_square(kept, square, step, group).sqrt_().add_(group["eps"])
        turned = _turned(kept["exp_avg"], outer, inner, manifold).div_(denominator)
        direction = _turned(turned, None if outer is None else outer.mT, inner.mT, manifold)
        length = (entries_in(manifold, x, group) / (x.shape[-2] * x.shape[-1])) ** 0.5
        scale = torch.full((), -group["lr"] * length / (1 - group["betas"][0] ** step), dtype=x.dtype, device=x.device)
        return projected(manifold, x, direction, None), scale


def _take_in(kept: dict[str, Tensor], name: str, rows: Tensor, weight: float) -> None:
    """Average the Gram matrix of rows into a moment."""
    if name not in kept:
        kept[name] = rows.new_zeros(*rows.shape[:-1], rows.shape[-2])
    kept[name].baddbmm_(rows, rows.mT, beta=1 - weight, alpha=weight)


def _unfolded(x: Tensor, manifold: Any, index: str) -> Tensor:
    """Cores as matrices (B, rank, others) over one rank index."""
    if index == "inner":
        return x.mT
    batch, rows, columns = x.shape
    if manifold.outer_first:
        return x.reshape(batch, manifold.outer, -1)
    return x.reshape(batch, -1, manifold.outer, columns).transpose(1, 2).reshape(batch, manifold.outer, -1)


def _turned(x: Tensor, outer: Tensor | None, inner: Tensor | None, manifold: Any) -> Tensor:
    """Cores with the transpose of a matrix applied to either rank index."""
    if outer is not None:
        x = absorb(outer, x, manifold.outer_first)
    return x if inner is None else x @ inner


def _refresh(kept: dict[str, Tensor], indices: tuple[str, ...], manifold: Any) -> None:
    """Find the bases anew, and let second moments follow."""
    squares: dict[str, Tensor] = {}
    for index in indices:
        values, basis = torch.linalg.eigh(kept[f"{index}_gram"])
        basis, old = basis.contiguous(), kept.get(f"{index}_basis")
        if old is not None:
            squares[index] = (old.mT @ basis).square_()
        kept[f"{index}_basis"], kept[f"{index}_values"] = basis, values.unsqueeze(-2).contiguous()
    for name in ("exp_avg_sq", "max_exp_avg_sq"):
        if name in kept and squares:
            moved = _turned(kept[name], squares.get("outer"), squares.get("inner"), manifold)
            shares = {index: _shares(kept[f"{index}_values"]) for index in indices}
            kept[name].copy_(_turned(moved, shares.get("outer"), shares.get("inner"), manifold))


def _shares(values: Tensor) -> Tensor | None:
    """Matrices (B, r, r) that average over equal ones among ascending values (B, 1, r); None where all differ."""
    ties = values.diff(dim=-1) <= TIE * values[..., -1:]
    if not bool(ties.any()):
        return None
    labels = torch.nn.functional.pad((~ties).cumsum(-1), (1, 0))
    same = (labels.mT == labels).to(values.dtype)
    return same / same.sum(-1, keepdim=True)
