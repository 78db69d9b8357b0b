"""W from its factors, as an autograd node that supports repeated backward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.frames.frame import full_precision
from sttp_riemann.trains.memory import side_by_side

SMALL = 2**14
"""Numbers of a weight that is multiplied out together with those of equal layers."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """L R^T, differentiable to any order, and by several backward calls that each free their graph.

    Parameters
    ----------
    left : Tensor
        (n, r).
    right : Tensor
        (m, r).

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.batch.products import product
    >>> product(torch.ones(4, 3), torch.ones(5, 3)).shape
    torch.Size([4, 5])
    """
    return products([left], [right])[0]


def products(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Sequence[Tensor]:
    """As `product`, of several pairs at once; a product that is not used gives no gradient.

    Parameters
    ----------
    lefts : sequence of Tensor
        (n, r) each.
    rights : sequence of Tensor
        (m, r) each.

    Returns
    -------
    sequence of Tensor
        (n, m) each.
    """
    with full_precision(lefts[0].device):
        if torch.is_grad_enabled() and any(t.requires_grad for t in (*lefts, *rights)):
            found: Sequence[Tensor] = _Products.apply(*lefts, *rights)
            return found
        return _rows(_multiplied(_whole(lefts), _whole(rights).mT))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *factors: Tensor) -> tuple[Tensor, ...]:
        count = len(factors) // 2
        wholes = _whole(factors[:count]), _whole(factors[count:])
        # Not save_for_backward: the first backward would free it
        ctx.factors, ctx.wholes = factors, wholes
        ctx.set_materialize_grads(False)
        found = _rows(_multiplied(wholes[0], wholes[1].mT))
        needed = ctx.needs_input_grad
        ctx.mark_non_differentiable(*(w for i, w in enumerate(found) if not (needed[i] or needed[count + i])))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        count, needed = len(grads), ctx.needs_input_grad
        given = next((g for g in grads if g is not None), None)
        if given is None:
            return (None,) * (2 * count)
        full = [torch.zeros_like(given) if g is None else g for g in grads]
        again = torch.is_grad_enabled()  # create_graph=True
        wholes = (torch.stack(ctx.factors[:count]), torch.stack(ctx.factors[count:])) if again else ctx.wholes
        whole = torch.stack(full) if again else _whole(full)
        of_left = _rows(_multiplied(whole, wholes[1])) if any(needed[:count]) else (None,) * count
        of_right = _rows(_multiplied(whole.mT, wholes[0])) if any(needed[count:]) else (None,) * count
        used = [need and grads[i % count] is not None for i, need in enumerate(needed)]
        return tuple(g if flag else None for g, flag in zip((*of_left, *of_right), used, strict=True))


def _multiplied(a: Tensor, b: Tensor) -> Tensor:
    # The bits of a small product must not depend on how many are computed together
    alone = len(a) == 1 and a.shape[1] * b.shape[2] > SMALL
    return (a[0] @ b[0]).unsqueeze(0) if alone else torch.bmm(a, b)


def _whole(tensors: Sequence[Tensor]) -> Tensor:
    """(B, ...), a copy only where the tensors do not lie side by side."""
    if len(tensors) == 1:
        return tensors[0].unsqueeze(0)
    whole = side_by_side(tensors)
    return torch.stack(list(tensors)) if whole is None else whole


def _rows(whole: Tensor) -> Sequence[Tensor]:
    return [whole.squeeze(0)] if len(whole) == 1 else whole.unbind()
