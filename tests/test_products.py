"""Products handed out matrix by matrix."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann import products as module
from sttp_riemann.products import products


@pytest.fixture(params=["stacked", "one by one"])
def way(request, monkeypatch):
    """Both ways of the backward, whatever the size."""
    monkeypatch.setattr(module, "LARGE", 1 if request.param == "one by one" else 10**9)


def _factors(*gradients: bool):
    return [
        torch.randn(3, size, 2, dtype=torch.float64, requires_grad=gradient)
        for size, gradient in zip((4, 5), gradients, strict=True)
    ]


@pytest.mark.parametrize("gradients", [(False, False), (True, False), (True, True)])
def test_each_is_the_product_of_its_factors(gradients) -> None:
    left, right = _factors(*gradients)
    for index, found in enumerate(products(left, right)):
        torch.testing.assert_close(found, left[index] @ right[index].mT)
        assert found.requires_grad == any(gradients)


def test_first_and_second_derivatives_are_right(way) -> None:
    left, right = _factors(True, True)
    assert torch.autograd.gradcheck(products, (left, right))
    assert torch.autograd.gradgradcheck(products, (left, right))


@pytest.mark.parametrize("used", [(0,), (2,), (0, 1)])
def test_what_is_not_used_has_a_gradient_of_zero(used, way) -> None:
    left, right = _factors(True, True)
    found = products(left, right)
    sum(found[i].square().sum() for i in used).backward()
    wanted = torch.autograd.grad(sum((left[i] @ right[i].mT).square().sum() for i in used), (left, right))
    for factor, gradient in zip((left, right), wanted, strict=True):
        torch.testing.assert_close(factor.grad, gradient)
