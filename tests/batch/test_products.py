"""W from its factors."""

from __future__ import annotations

import torch

from sttp_riemann.batch.products import product


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
