"""Adam's entries in the eigenbases of the Gram moments over the rank indices of a core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from sttp_riemann.optim.moments.moment import Moment, averaged, averaged_square, entries_in
from sttp_riemann.optim.points import Points, projected

SAMPLE = 5
"""Steps between gradients that the Gram moments take in: more cost as much as the rest of the step."""
REFRESH = 20
"""Steps between eigendecompositions, a multiple of `SAMPLE`."""
TIE = 500
"""Eigenvalues this close, in units of rounding of the largest, count as equal: their bases are rounding errors."""
FLOOR = 1e-4
"""Added to denominators, as a part of a frame's largest: rounding errors would move a frame as far as gradients do."""
_MEANS = WeakTensorKeyDictionary()
"""By the values of inner indices: those of the outer ones, and what `_shared` applies for both; None: all differ.

To look costs as much as a product, and on other devices waits for the values.
"""


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
    def direct(points: Points, tangent: Tensor, kept: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        manifold, x, step, group, leading, spare = points
        indices = ("outer", "inner") if manifold.outer > 1 else ("inner",)
        beta1, beta2 = group["betas"]
        if step % SAMPLE == 1:
            for index in indices:
                _take_in(kept, f"{index}_gram", _unfolded(tangent, index, manifold.outer, leading), 1 - beta2**SAMPLE)
        if step % REFRESH == 1:
            _refresh(kept, indices, x, leading)
        turn = _Turn.of({index: kept[f"{index}_basis"] for index in indices}, x, leading)
        # From here on the memory of `tangent` and `turned` serves what follows
        turned = turn.there(tangent, spare)
        first = averaged(kept, turned, group)
        square = _shared(turned.square_(), kept, indices, leading)
        root = torch.sqrt(averaged_square(kept, square, group), out=tangent)
        # Adam's denominator is the root over that of this, plus eps
        unbiased = (1 - beta2**step) ** 0.5
        floor = root.amax((-2, -1), keepdim=True).mul_(FLOOR).add_(group["eps"] * unbiased)
        back = turn.back(torch.div(first, root.add_(floor), out=root), turned)
        direction = projected(manifold, x, back, back)
        length = (entries_in(points) / (x.shape[-2] * x.shape[-1])) ** 0.5
        rate = -group["lr"] * length * unbiased / (1 - beta1**step)
        return direction, torch.full((), rate, dtype=x.dtype, device=x.device), None


class _Turn(NamedTuple):
    """Matrices for the rank indices of cores, the outer one first of the `leading` cores and second of the others.

    Those of the others are repeated for every index of the mode, (B * mode, rank, rank), so that one product does.
    """

    first: Tensor | None
    second: Tensor | None
    inner: Tensor | None

    @classmethod
    def of(cls, moves: Mapping[str, Tensor], x: Tensor, leading: int) -> _Turn:
        """Those of (B, rank, rank) by index, for cores like `x`; none for an index that is left alone."""
        outer, inner = moves.get("outer"), moves.get("inner")
        if outer is None or leading == outer.shape[0]:
            return cls(outer, None, inner)
        rank = outer.shape[-1]
        others = outer[leading:].unsqueeze(1).expand(-1, x.shape[-2] // rank, -1, -1)
        return cls(outer[:leading] if leading else None, others.reshape(-1, rank, rank), inner)

    def there(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Cores with the transposes applied, in other memory where that is given."""
        first, second = (None if move is None else move.mT for move in (self.first, self.second))
        x = self._outer(x, first, second)
        return x if self.inner is None else torch.bmm(x, self.inner, out=out)

    def back(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Cores with the matrices applied, in other memory where that is given."""
        x = self._outer(x, self.first, self.second)
        return x if self.inner is None else torch.bmm(x, self.inner.mT, out=out)

    def _outer(self, x: Tensor, first: Tensor | None, second: Tensor | None) -> Tensor:
        moves = [move for move in (first, second) if move is not None]
        if len(moves) < 2:
            return torch.bmm(moves[0], x.view(*moves[0].shape[:2], -1)).view(x.shape) if moves else x
        found, leading = torch.empty_like(x), moves[0].shape[0]
        for move, own, out in zip(moves, x.tensor_split((leading,)), found.tensor_split((leading,)), strict=True):
            shape = *move.shape[:2], -1
            torch.bmm(move, own.view(shape), out=out.view(shape))
        return found


def _take_in(kept: dict[str, Tensor], name: str, parts: Sequence[Tensor], weight: float) -> None:
    """Average the Gram matrices of rows (B, rank, others), in parts of the batch, into a moment."""
    if name not in kept:
        rank = parts[0].shape[1]
        kept[name] = parts[0].new_zeros(sum(map(len, parts)), rank, rank)
    for gram, rows in zip(kept[name].split([len(rows) for rows in parts]), parts, strict=True):
        gram.baddbmm_(rows, rows.mT, beta=1 - weight, alpha=weight)


def _unfolded(x: Tensor, index: str, outer: int, leading: int) -> Sequence[Tensor]:
    """Cores as matrices (B, rank, others) over one rank index, in parts of the batch."""
    if index == "inner":
        return (x.mT,)
    rows, columns = x.shape[1:]
    first = x[:leading].view(-1, outer, rows // outer, columns)
    second = x[leading:].view(-1, rows // outer, outer, columns).transpose(1, 2)
    return [part.flatten(2) for part in (first, second) if len(part)]


def _refresh(kept: dict[str, Tensor], indices: tuple[str, ...], x: Tensor, leading: int) -> None:
    """Find the bases anew, and let moments follow."""
    moves: dict[str, Tensor] = {}
    for index in indices:
        values, basis = torch.linalg.eigh(kept[f"{index}_gram"])
        if f"{index}_basis" in kept:
            moves[index] = kept[f"{index}_basis"].mT @ basis
        kept[f"{index}_basis"], kept[f"{index}_values"] = basis.contiguous(), values.unsqueeze(-2).contiguous()
    if moves:
        kept["exp_avg"].copy_(_Turn.of(moves, x, leading).there(kept["exp_avg"]))
        squares = _Turn.of({index: move.square() for index, move in moves.items()}, x, leading)
        for name in {"exp_avg_sq", "max_exp_avg_sq"} & kept.keys():
            kept[name].copy_(_shared(squares.there(kept[name]), kept, indices, leading))


def _shared(square: Tensor, kept: dict[str, Tensor], indices: tuple[str, ...], leading: int) -> Tensor:
    """Squares of entries, those of equal eigenvalues replaced by their mean."""
    # None of a core without an outer rank
    inner, outer = kept["inner_values"], kept.get("outer_values")
    known = _MEANS.get(inner)
    if known is None or known[0] is not outer:
        found = {index: _means(kept[f"{index}_values"]) for index in indices}
        moves = {index: mean for index, mean in found.items() if mean is not None}
        known = _MEANS[inner] = outer, _Turn.of(moves, square, leading) if moves else None
    return square if known[1] is None else known[1].there(square)


def _means(values: Tensor) -> Tensor | None:
    """Matrices (B, r, r) that average over equal ones among ascending values (B, 1, r); None: all differ."""
    ties = values.diff(dim=-1) <= TIE * torch.finfo(values.dtype).eps * values[..., -1:]
    if not bool(ties.any()):
        return None
    labels = torch.nn.functional.pad((~ties).cumsum(-1), (1, 0))
    same = (labels.mT == labels).to(values.dtype)
    return same / same.sum(-1, keepdim=True)
