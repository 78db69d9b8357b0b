"""One matrix at every place: what torch's convolution with a kernel of one place gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sttp_riemann.layers.pointwise import pointwise

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("batch", [(), (0,), (1,), (3,)], ids=["unbatched", "empty", "one", "several"])
@pytest.mark.parametrize("space", [1, 2, 3])
def test_it_is_a_convolution_with_its_gradients(space: int, batch: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(*batch, 5, *(4, 3, 2)[:space], dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True) if biased else None
    leaves = [t for t in (x, matrix, bias) if t is not None]
    out = pointwise(x, matrix, bias, space)
    expected = CONVOLUTIONS[space](x, matrix.reshape(6, 5, *(1,) * space), bias)
    torch.testing.assert_close(out, expected)
    gradient = torch.randn_like(out)
    for found, wanted in zip(
        torch.autograd.grad(out, leaves, gradient), torch.autograd.grad(expected, leaves, gradient), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_channels_last_stays_channels_last() -> None:
    x = torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last)
    out = pointwise(x, torch.randn(6, 5), None, 2)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_autocast_narrows_it() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert pointwise(torch.randn(2, 5, 4), torch.randn(6, 5), torch.randn(6), 1).dtype == torch.bfloat16
