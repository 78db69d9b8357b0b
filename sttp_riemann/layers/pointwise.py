"""Pointwise convolution: one matrix applied to the channels at every place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sttp_riemann.compat import in_transform

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def pointwise(input: Tensor, matrix: Tensor, bias: Tensor | None, space: int) -> Tensor:
    """Convolve with a kernel of size 1.

    Parameters
    ----------
    input : Tensor
        (N, C_in, space) or (C_in, space).
    matrix : Tensor
        (C_out, C_in).
    bias : Tensor or None
        (C_out,).
    space : {1, 2, 3}
        Number of spatial dimensions.

    Returns
    -------
    Tensor
        (N, C_out, space) or (C_out, space).

    Notes
    -----
    On the CPU this is one matrix product per sample, which reads the input in place. torch's convolution first copies
    the input into its own layout, and sums the gradient of the bias slowly.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.layers.pointwise import pointwise
    >>> image = torch.randn(2, 3, 8, 8)
    >>> torch.equal(pointwise(image, torch.eye(3), None, 2), image)
    True
    """
    batched = input.dim() == space + 2
    if not batched or input.device.type != "cpu" or not input.is_contiguous() or in_transform():
        return CONVOLVE[space](input, matrix.reshape(*matrix.shape, *(1,) * space), bias)
    left, right = matrix.expand(input.shape[0], -1, -1), input.flatten(2)
    out = torch.bmm(left, right) if bias is None else torch.baddbmm(bias.unsqueeze(-1), left, right)
    return out.unflatten(2, input.shape[2:])
