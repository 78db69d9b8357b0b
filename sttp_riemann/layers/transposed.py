"""Transposed convolutions, grouped ones included."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Application, Workload
from sttp_riemann.layers.base import filled
from sttp_riemann.layers.convolution import Convolution
from sttp_riemann.layers.pointwise import pointwise
from sttp_riemann.layers.tracing import opaque

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class _SpectralConvTranspose(Convolution):
    """Transposed convolution with the weight (C_in, C_out / groups, kernel sizes).

    The matrix is C_out / groups x (C_in * kernel).
    """

    transposed_op: ClassVar[Callable[..., Tensor]]

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """C_out / groups, and (C_in, kernel sizes)."""
        return layer.out_channels // layer.groups, (layer.in_channels, *layer.kernel_size)

    @staticmethod
    @override
    def to_matrix(weight: Tensor) -> Tensor:
        """Output channels first: (C_out / groups, C_in * kernel)."""
        return weight.transpose(0, 1).flatten(1)

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        split = matrix.view(self.out_channels // self.groups, self.in_channels, *self.kernel_size)
        return split.transpose(0, 1)

    @override
    def workload(self, entries: int) -> Workload:
        """Places before and after the strides."""
        before = entries // self.in_channels
        after = before * math.prod(self.stride)
        return Workload(before, after * self.groups, before, self.in_channels, self.out_channels // self.groups)

    @override
    @opaque
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return self.applied(input, input, output_size)

    @override
    def by_weight(self, weight: Tensor, bias: Tensor | None, input: Tensor, output_size: list[int] | None) -> Tensor:
        return type(self).transposed_op(input, weight, bias, *self._places(input, output_size))

    def _places(self, input: Tensor, output_size: list[int] | None) -> tuple[Any, ...]:
        """Further arguments of torch's function."""
        space = len(self.kernel_size)
        extra = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, space, self.dilation
        )
        return self.stride, self.padding, extra, self.groups, self.dilation

    @override
    def by_factors(
        self, application: Application, bias: Tensor | None, input: Tensor, output_size: list[int] | None
    ) -> Tensor:
        space, places = len(self.kernel_size), self._places(input, output_size)
        left, right = self.factors()
        rank = right.shape[1]
        thin = right.view(self.in_channels, -1, rank).mT.reshape(self.in_channels, rank, *self.kernel_size)
        batched = input.dim() == space + 2
        x = input if batched else input.unsqueeze(0)
        encode = partial(type(self).transposed_op, x, thin, None, *places)
        codes = encode()
        # Each group writes through the same U.
        folded = codes.reshape(x.shape[0] * self.groups, rank, *codes.shape[2:])
        with self._keeping(folded, encode):
            out = pointwise(folded, left, None, space)
        out = out.reshape(x.shape[0], self.out_channels, *out.shape[2:])
        if bias is not None:
            out = out + bias.view(-1, *(1,) * space)
        return out if batched else out.squeeze(0)

    @override
    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        """All groups share U, so it is repeated; V has the rows of all groups already."""
        space, rank = len(self.kernel_size), right.shape[1]
        places = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        options = {**places, "output_padding": self.output_padding, "groups": self.groups, "bias": False}
        thin = right.view(self.in_channels, -1, rank).mT.reshape(self.in_channels, rank, *self.kernel_size)
        first = self.dense_class(self.in_channels, rank * self.groups, self.kernel_size, **options)
        second = CONVOLUTIONS[space](rank * self.groups, self.out_channels, 1, groups=self.groups)
        wide = left.reshape(*left.shape, *(1,) * space).repeat(self.groups, *(1,) * (space + 1))
        return nn.Sequential(filled(first, thin), filled(second, wide, self.bias))


class SpectralConvTranspose1d(_SpectralConvTranspose, nn.ConvTranspose1d):  # type: ignore[override, misc]
    """1d transposed convolution with a spectral weight."""

    transposed_op = staticmethod(F.conv_transpose1d)


class SpectralConvTranspose2d(_SpectralConvTranspose, nn.ConvTranspose2d):  # type: ignore[override, misc]
    """2d transposed convolution with a spectral weight."""

    transposed_op = staticmethod(F.conv_transpose2d)


class SpectralConvTranspose3d(_SpectralConvTranspose, nn.ConvTranspose3d):  # type: ignore[override, misc]
    """3d transposed convolution with a spectral weight."""

    transposed_op = staticmethod(F.conv_transpose3d)
