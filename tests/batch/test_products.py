"""W from its factors."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.batch.products import product, products


def _factors() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5))  # type: ignore[return-value]


def test_it_is_differentiable_twice() -> None:
    assert torch.autograd.gradcheck(product, _factors())
    assert torch.autograd.gradgradcheck(product, _factors())


def test_several_backward_calls_go_through_one_product() -> None:
    left, right = _factors()
    weight = product(left, right)
    for _ in range(2):
        weight.sum().backward()
    torch.testing.assert_close(left.grad, 2 * right.detach().sum(0).expand(4, 3))


def test_a_frozen_factor_gets_no_gradient() -> None:
    left, right = _factors()
    product(left, right.requires_grad_(False)).sum().backward()
    assert right.grad is None
    assert left.grad is not None


def _pairs(side_by_side: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    whole = [torch.randn(3, n, 2, dtype=torch.float64, requires_grad=True) for n in (4, 5)]
    if side_by_side:
        return tuple(list(own.unbind()) for own in whole)  # type: ignore[return-value]
    return tuple([t.detach().clone().requires_grad_() for t in own.unbind()] for own in whole)  # type: ignore[return-value]


@pytest.mark.parametrize("side_by_side", [True, False])
def test_several_products_are_those_of_each_pair_and_differentiable_twice(side_by_side: bool) -> None:
    lefts, rights = _pairs(side_by_side)
    for found, left, right in zip(products(lefts, rights), lefts, rights, strict=True):
        torch.testing.assert_close(found, left @ right.mT)
    leaves = [t.detach().requires_grad_() for t in (*lefts, *rights)]

    def multiplied(*factors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(products(factors[:3], factors[3:]))

    assert torch.autograd.gradcheck(multiplied, leaves)
    assert torch.autograd.gradgradcheck(multiplied, leaves)


def test_a_product_that_is_not_used_gives_no_gradient_and_one_of_frozen_factors_needs_none() -> None:
    lefts, rights = _pairs(side_by_side=False)
    lefts[2].requires_grad_(False)
    rights[2].requires_grad_(False)
    found = products(lefts, rights)
    assert [w.requires_grad for w in found] == [True, True, False]
    (found[0] * found[2]).sum().backward()
    torch.testing.assert_close(lefts[0].grad, found[2].detach() @ rights[0].detach())
    assert all(t.grad is None for t in (lefts[1], rights[1], lefts[2], rights[2]))
