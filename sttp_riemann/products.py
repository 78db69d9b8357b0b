"""Products of a batch of factors, handed out matrix by matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LARGE = 2**18
"""Entries from which a matrix is worth a product of its own: to stack it with others would cost a copy of it."""


def products(left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
    """L_b R_b^T of every matrix of a batch, differentiable any number of times.

    Parameters
    ----------
    left : Tensor
        (B, n, r).
    right : Tensor
        (B, m, r).

    Returns
    -------
    tuple of Tensor
        B matrices (n, m). They share memory; what has no gradient in the backward costs nothing there.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.products import products
    >>> [product.shape for product in products(torch.ones(2, 4, 3), torch.ones(2, 5, 3))]
    [torch.Size([4, 5]), torch.Size([4, 5])]
    """
    if left.requires_grad or right.requires_grad:
        found: tuple[Tensor, ...] = _Products.apply(left, right)
        return found
    return (left @ right.mT).unbind()


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(left, right)
        ctx.set_materialize_grads(False)
        return (left @ right.mT).unbind()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        if left.shape[1] * right.shape[1] < LARGE:
            none = left.new_zeros(left.shape[1], right.shape[1])
            stack = torch.stack([none if g is None else g for g in grads])
            return stack @ right, stack.mT @ left
        of_left = [torch.zeros_like(a) if g is None else g @ b for g, a, b in zip(grads, left, right, strict=True)]
        of_right = [torch.zeros_like(b) if g is None else g.mT @ a for g, a, b in zip(grads, left, right, strict=True)]
        return torch.stack(of_left), torch.stack(of_right)
