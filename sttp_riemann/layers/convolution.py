"""Convolutions, grouped ones included."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Application, Workload
from sttp_riemann.layers.base import SpectralLayer, filled
from sttp_riemann.layers.pointwise import CONVOLVE, pointwise
from sttp_riemann.layers.tracing import opaque
from sttp_riemann.trains.places import Places


class Convolution(SpectralLayer):
    """Attributes common to torch's plain and transposed convolutions."""

    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    padding_mode: str
    bias: nn.Parameter | None
    _conv_forward: Callable[..., Tensor]
    _output_padding: Callable[..., list[int]]
    _reversed_padding_repeated_twice: list[int]

    @override
    def copies(self, input: Tensor) -> bool:
        """On the CPU, unless one matrix is applied at every place."""
        plain = input.device.type == "cpu" and input.is_contiguous()
        return plain and not self._everywhere()

    def _everywhere(self) -> bool:
        """Whether one matrix is applied at every place of the input."""
        padded = not isinstance(self.padding, str) and any(self.padding)
        return self.groups == 1 and set(self.kernel_size) | set(self.stride) == {1} and not padded

    @staticmethod
    @override
    def places(layer: Any) -> Places | None:
        """None where it is one matrix at every place."""
        sides = [(0, 0)] * len(layer.kernel_size)
        if layer.padding_mode != "zeros":
            twice = layer._reversed_padding_repeated_twice
            sides = [*zip(twice[::2], twice[1::2], strict=True)][::-1]
        places = Places(
            tuple(layer.kernel_size),
            tuple(layer.stride),
            tuple(layer.dilation),
            tuple(sides),
            layer.padding_mode,
            layer.groups,
            layer.transposed,
        )
        return None if places.pointwise else places


class _SpectralConv(Convolution):
    """Convolution with the weight (C_out, C_in / groups, kernel sizes).

    The matrix is C_out x (C_in / groups * kernel).
    """

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """C_out, and (C_in / groups, kernel sizes)."""
        return layer.out_channels, (layer.in_channels // layer.groups, *layer.kernel_size)

    @staticmethod
    @override
    def columns(layer: Any, input: Tensor) -> Tensor:
        """Patches under the kernel, (N * groups * places, C_in / groups * kernel)."""
        space = len(layer.kernel_size)
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = input if input.dim() == space + 2 else input.unsqueeze(0)
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
        x = x.reshape(-1, layer.in_channels // layer.groups, *x.shape[2:])
        for axis, (size, stride, dilation) in enumerate(
            zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
        ):
            x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        return x.movedim(1, 1 + space).flatten(1 + space).flatten(0, space)

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix.view(self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @override
    def workload(self, entries: int) -> Workload:
        """One place for every position of the kernel."""
        pixels = entries // (self.in_channels * math.prod(self.stride))
        return Workload(pixels * self.groups, pixels, pixels, self.in_channels // self.groups, self.out_channels)

    @override
    @opaque
    def forward(self, input: Tensor) -> Tensor:
        return self.applied(input, input)

    @override
    def by_weight(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
        if self._everywhere():
            return pointwise(input, self.to_matrix(weight), bias, len(self.kernel_size))
        return self._conv_forward(input, weight, bias)

    @override
    def by_factors(self, application: Application, bias: Tensor | None, input: Tensor) -> Tensor:
        left, right = self.factors()
        space = len(self.kernel_size)
        thin = right.mT.reshape(-1, self.in_channels // self.groups, *self.kernel_size)
        if self.groups > 1:
            return self._grouped(input, thin, left, bias)
        encode = partial(self._conv_forward, input, thin, None)
        if self._everywhere():
            encode = partial(pointwise, input, right.mT, None, space)
        codes = encode()
        with self._keeping(codes, encode):
            return pointwise(codes, left, bias, space)

    @override
    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        """All groups share V, so it is repeated; U has the rows of all groups already."""
        places = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        codes = right.shape[1] * self.groups
        options = {**places, "groups": self.groups, "padding_mode": self.padding_mode, "bias": False}
        thin = right.mT.reshape(-1, self.in_channels // self.groups, *self.kernel_size)
        first = self.dense_class(self.in_channels, codes, self.kernel_size, **options)
        second = self.dense_class(codes, self.out_channels, 1, groups=self.groups)
        wide = left.reshape(*left.shape, *(1,) * len(self.kernel_size))
        return nn.Sequential(
            filled(first, thin.repeat(self.groups, *(1,) * (thin.dim() - 1))), filled(second, wide, self.bias)
        )

    def _grouped(self, input: Tensor, thin: Tensor, left: Tensor, bias: Tensor | None) -> Tensor:
        """All groups read their channels through the same V; each writes through its own rows of U."""
        space = len(self.kernel_size)
        convolve = CONVOLVE[space]
        wide = left.reshape(*left.shape, *(1,) * space)
        batched = input.dim() == space + 2
        x = input if batched else input.unsqueeze(0)
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        folded = x.reshape(x.shape[0] * self.groups, self.in_channels // self.groups, *x.shape[2:])
        encode = partial(convolve, folded, thin, None, self.stride, padding, self.dilation)
        codes = encode()
        codes = codes.reshape(x.shape[0], self.groups * left.shape[1], *codes.shape[2:])
        with self._keeping(codes, encode):
            out = convolve(codes, wide, bias, groups=self.groups)
        return out if batched else out.squeeze(0)


class SpectralConv1d(_SpectralConv, nn.Conv1d):  # type: ignore[override, misc]
    """1d convolution with a spectral weight."""


class SpectralConv2d(_SpectralConv, nn.Conv2d):  # type: ignore[override, misc]
    """2d convolution with a spectral weight."""


class SpectralConv3d(_SpectralConv, nn.Conv3d):  # type: ignore[override, misc]
    """3d convolution with a spectral weight."""
