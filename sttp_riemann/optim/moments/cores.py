"""Adam's entries in the eigenbases of the Gram moments over the rank indices of a core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, averaged, averaged_square, entries_in
from sttp_riemann.optim.stepping import projected
from sttp_riemann.trains.shape import absorb

SAMPLE = 5
"""Steps between gradients that the Gram moments take in: more cost as much as the rest of the step."""
REFRESH = 20
"""Steps between eigendecompositions, a multiple of `SAMPLE`."""
TIE = 500
"""Eigenvalues this close, in units of rounding of the largest, count as equal: their bases are rounding errors."""
FLOOR = 1e-4
"""Added to denominators, as a part of a frame's largest: rounding errors would move a frame as far as gradients do."""
_MEANS = WeakTensorKeyDictionary()
"""What `_means` found for values: to look costs as much as a product, and on other devices waits for them."""


class CoresMoment(Moment):
    """Adam entry by entry, in bases that turn with the gauge: "SOAP on cores".

    A core (outer, mode, inner) has one Gram moment over each rank index, of every `SAMPLE`-th gradient, decayed as the
    second moment is. In their eigenbases, found anew every `REFRESH` steps, every entry has moments of its own. The
    mode is not turned, as no gauge move turns it. A frame that is no core of a train has the inner index alone. The
    direction is projected to the tangent space; the first moment is not.

    Notes
    -----
    Vyas et al. 2024, "SOAP", for the eigenbases. Where eigenvalues coincide, the basis is arbitrary: entries then share
    the mean of their second moments, which does not depend on it. When bases change, first moments are turned, and
    second ones follow as those of uncorrelated entries do.
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
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        indices = ("outer", "inner") if manifold.outer > 1 else ("inner",)
        beta1, beta2 = group["betas"]
        if step % SAMPLE == 1:
            for index in indices:
                _take_in(kept, f"{index}_gram", _unfolded(tangent, manifold, index), 1 - beta2**SAMPLE)
        if step % REFRESH == 1:
            _refresh(kept, indices, manifold)
        bases = {index: kept[f"{index}_basis"] for index in indices}
        turned = _turned(tangent, bases, manifold)
        first = averaged(kept, turned, group)
        square = _shared(turned.square_(), kept, indices, manifold)
        root = averaged_square(kept, square, group).sqrt()
        # Adam's denominator is the root over that of this, plus eps
        unbiased = (1 - beta2**step) ** 0.5
        floor = root.amax((-2, -1), keepdim=True).mul_(FLOOR).add_(group["eps"] * unbiased)
        turned = torch.div(first, root.add_(floor), out=root)
        back = {index: basis.mT for index, basis in bases.items()}
        direction = projected(manifold, x, _turned(turned, back, manifold), None)
        length = (entries_in(manifold, x, group) / (x.shape[-2] * x.shape[-1])) ** 0.5
        rate = -group["lr"] * length * unbiased / (1 - beta1**step)
        return direction, torch.full((), rate, dtype=x.dtype, device=x.device), None


def _take_in(kept: dict[str, Tensor], name: str, rows: Tensor, weight: float) -> None:
    """Average the Gram matrix of rows into a moment."""
    if name not in kept:
        kept[name] = rows.new_zeros(*rows.shape[:-1], rows.shape[-2])
    kept[name].baddbmm_(rows, rows.mT, beta=1 - weight, alpha=weight)


def _unfolded(x: Tensor, manifold: Any, index: str) -> Tensor:
    """Cores as matrices (B, rank, others) over one rank index."""
    if index == "inner":
        return x.mT
    batch, outer = x.shape[0], manifold.outer
    if manifold.outer_first:
        return x.reshape(batch, outer, -1)
    return x.reshape(batch, -1, outer, x.shape[-1]).transpose(1, 2).reshape(batch, outer, -1)


def _turned(x: Tensor, moves: dict[str, Tensor], manifold: Any) -> Tensor:
    """Cores with the transpose of a matrix applied to rank indices."""
    x = absorb(moves["outer"], x, manifold.outer_first) if "outer" in moves else x
    return x @ moves["inner"] if "inner" in moves else x


def _refresh(kept: dict[str, Tensor], indices: tuple[str, ...], manifold: Any) -> None:
    """Find the bases anew, and let moments follow."""
    moves: dict[str, Tensor] = {}
    for index in indices:
        values, basis = torch.linalg.eigh(kept[f"{index}_gram"])
        if f"{index}_basis" in kept:
            moves[index] = kept[f"{index}_basis"].mT @ basis
        kept[f"{index}_basis"], kept[f"{index}_values"] = basis.contiguous(), values.unsqueeze(-2).contiguous()
    if moves:
        kept["exp_avg"].copy_(_turned(kept["exp_avg"], moves, manifold))
        squares = {index: move.square() for index, move in moves.items()}
        for name in {"exp_avg_sq", "max_exp_avg_sq"} & kept.keys():
            kept[name].copy_(_shared(_turned(kept[name], squares, manifold), kept, indices, manifold))


def _shared(square: Tensor, kept: dict[str, Tensor], indices: tuple[str, ...], manifold: Any) -> Tensor:
    """Squares of entries, those of equal eigenvalues replaced by their mean."""
    found = {index: _means(kept[f"{index}_values"]) for index in indices}
    return _turned(square, {index: mean for index, mean in found.items() if mean is not None}, manifold)


def _means(values: Tensor) -> Tensor | None:
    """Matrices (B, r, r) that average over equal ones among ascending values (B, 1, r); None: all differ."""
    if values not in _MEANS:
        ties = values.diff(dim=-1) <= TIE * torch.finfo(values.dtype).eps * values[..., -1:]
        found = None
        if bool(ties.any()):
            labels = torch.nn.functional.pad((~ties).cumsum(-1), (1, 0))
            same = (labels.mT == labels).to(values.dtype)
            found = same / same.sum(-1, keepdim=True)
        _MEANS[values] = found
    return _MEANS[values]
