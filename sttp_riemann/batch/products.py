"""W from its factors, as an autograd node that supports repeated backward passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sttp_riemann.frames.frame import full_precision


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
    with full_precision(left.device):
        if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad):
            found: Tensor = _Product.apply(left, right)
            return found
        return left @ right.mT


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        # Not save_for_backward: the first backward would free it
        ctx.factors = left, right
        return left @ right.mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.factors
        of_left = grad @ right if ctx.needs_input_grad[0] else None
        of_right = grad.mT @ left if ctx.needs_input_grad[1] else None
        return of_left, of_right
