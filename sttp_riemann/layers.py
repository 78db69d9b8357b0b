"""Layers whose weight is W = U diag(s) V^T: ordinary torch layers, except for where the weight comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sttp_riemann.application import Application, Workload, apply_train, choose
from sttp_riemann.factors import SpectralFactors
from sttp_riemann.reuse import in_transform


class SpectralLayer(nn.Module):  # type: ignore[override, misc]
    """What all reparameterized layers share.

    An existing layer becomes one in place (`adopt`): it keeps its bias, hooks, mode and identity, and loses its weight
    parameter. The factors of all layers of a model live in one `SpectralFactors`.

    Attributes
    ----------
    application : {"auto", "weight", "factored", "train"}
        How the layer is applied: by building W, by V and then U, or (linear layers) core by core. Chosen by cost at
        each input's size unless set.
    dense_error : float or None
        With ``init="dense"``: relative Frobenius error of W against the weight that was there.
    """

    applications: ClassVar[tuple[Application, ...]] = ("factored", "weight")
    application: Application
    dense_error: float | None
    dense_class: type[nn.Module]
    factors: SpectralFactors
    index: int

    @staticmethod
    def matrix_shape(layer: nn.Module) -> tuple[int, tuple[int, ...]]:
        """Rows of the layer's matrix, and its columns as input channels followed by kernel sizes."""
        raise NotImplementedError

    @staticmethod
    def to_matrix(weight: Tensor) -> Tensor:
        """The matrix (d_out, d_in) of a weight."""
        return weight.flatten(1)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Undo `to_matrix`."""
        raise NotImplementedError

    @classmethod
    def adopt(cls, layer: nn.Module, factors: SpectralFactors, index: int, dense_error: float | None) -> None:
        """Turn an ordinary layer into one of this class, in place."""
        del layer._parameters["weight"]
        # Not by setattr, which would register the shared factors as a child of every layer.
        layer.__dict__.update(
            dense_class=type(layer), factors=factors, index=index, application="auto", dense_error=dense_error
        )
        layer.__class__ = cls

    def release(self) -> None:
        """Turn back into an ordinary layer with the weight as it is now, in place."""
        weight = nn.Parameter(self.weight.detach().clone(), requires_grad=self.weight.requires_grad)
        dense_class, others = self.dense_class, dict(self._parameters)
        for name in ("dense_class", "factors", "index", "application", "dense_error"):
            del self.__dict__[name]
        self._parameters.clear()
        self._parameters.update(weight=weight, **others)
        self.__class__ = dense_class  # type: ignore[assignment]

    @property
    def weight(self) -> Tensor:
        """W in the shape of the original layer's weight, differentiable."""
        return self.from_matrix(self.factors.weight(self.index))

    @property
    def rank(self) -> int:
        """Number of singular values."""
        return self.factors.shapes[self.index].rank

    def extra_repr(self) -> str:
        """Options of the original layer, then the rank and how frames are kept."""
        return f"{super().extra_repr()}, rank={self.rank}, frames={self.factors.frames}"

    def _choose(self, work: Workload) -> Application:
        if self.application != "auto" and self.application not in self.applications:
            kinds = ", ".join(("auto", *self.applications))
            raise ValueError(f"a {self.dense_class.__name__} cannot be applied as {self.application!r}, but as {kinds}")
        # Compilers cannot follow the search for a contraction order; factor by factor gives the same.
        choices = tuple(c for c in self.applications if c != "train") if in_transform() else self.applications
        if self.application in choices:
            return self.application
        return choose(self.factors.shapes[self.index], work, choices)


class SpectralLinear(SpectralLayer, nn.Linear):  # type: ignore[override, misc]
    """Linear layer with a spectral weight (out_features, in_features)."""

    applications = ("factored", "weight", "train")

    @staticmethod
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """Out features; in features."""
        return layer.out_features, (layer.in_features,)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """The matrix itself."""
        return matrix

    def forward(self, input: Tensor) -> Tensor:
        """Apply to (..., in_features)."""
        rows = input.numel() // self.in_features
        application = self._choose(Workload(rows, rows, rows, self.in_features, self.out_features))
        if application == "weight":
            return F.linear(input, self.weight, self.bias)
        if application == "train":
            return self._by_cores(input)
        left, right = self.factors.pair(self.index)
        return F.linear(F.linear(input, right.mT), left, self.bias)

    def _by_cores(self, input: Tensor) -> Tensor:
        left, values, right = self.factors.cores(self.index)
        rows = input.reshape(-1, self.in_features).to(values.dtype)
        out = apply_train(self.factors.shapes[self.index], rows, left, values, right)
        out = out.to(input.dtype).reshape(*input.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias


class SpectralEmbedding(SpectralLayer, nn.Embedding):  # type: ignore[override, misc]
    """Embedding with a spectral weight (num_embeddings, embedding_dim).

    No gradient comes from `padding_idx`. Its vector is a row of W like any other, so it is not zero.
    """

    @staticmethod
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """Embeddings; their dimension."""
        return layer.num_embeddings, (layer.embedding_dim,)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """The matrix itself."""
        return matrix

    def forward(self, input: Tensor) -> Tensor:
        """Look up integers of any shape."""
        rows = input.numel()
        # A lookup costs a row's length: what counts is building W against multiplying rows by V^T.
        if self._choose(Workload(rows, 0, 0, 0, self.embedding_dim)) == "weight":
            return F.embedding(input, self.weight, self.padding_idx)
        left, right = self.factors.pair(self.index)
        vectors = F.embedding(input, left) @ right.mT
        if self.padding_idx is None:
            return vectors
        return torch.where((input == self.padding_idx).unsqueeze(-1), vectors.detach(), vectors)


class _Convolution(SpectralLayer):
    """What plain and transposed convolutions of torch bring along."""

    op: ClassVar[Callable[..., Tensor]]
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]
    padding_mode: str
    bias: nn.Parameter | None
    _conv_forward: Callable[..., Tensor]
    _output_padding: Callable[..., list[int]]
    _reversed_padding_repeated_twice: list[int]


class _SpectralConv(_Convolution):
    """Convolution (C_out, C_in / groups, *kernel); the matrix is C_out x (C_in / groups * kernel)."""

    @staticmethod
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """Out channels; in channels of a group, then kernel sizes."""
        return layer.out_channels, (layer.in_channels // layer.groups, *layer.kernel_size)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Unfold the columns into channels and kernel."""
        return matrix.view(self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C_in, *space) or (C_in, *space)."""
        pixels = input.numel() // (self.in_channels * math.prod(self.stride))
        channels = self.in_channels // self.groups, self.out_channels
        if self._choose(Workload(pixels * self.groups, pixels, pixels, *channels)) == "weight":
            return self._conv_forward(input, self.weight, self.bias)
        left, right = self.factors.pair(self.index)
        ones = (1,) * len(self.kernel_size)
        thin = right.mT.reshape(-1, self.in_channels // self.groups, *self.kernel_size)
        wide = left.reshape(*left.shape, *ones)
        if self.groups == 1:
            return type(self).op(self._conv_forward(input, thin, None), wide, self.bias)
        return self._grouped(input, thin, wide)

    def _grouped(self, input: Tensor, thin: Tensor, wide: Tensor) -> Tensor:
        """All groups read their channels through the same V, each writes through its own rows of U."""
        space = len(self.kernel_size)
        batched = input.dim() == space + 2
        x = input if batched else input.unsqueeze(0)
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        folded = x.reshape(-1, self.in_channels // self.groups, *x.shape[2:])
        codes = type(self).op(folded, thin, None, self.stride, padding, self.dilation)
        codes = codes.reshape(x.shape[0], -1, *codes.shape[2:])
        out = type(self).op(codes, wide, self.bias, groups=self.groups)
        return out if batched else out.squeeze(0)


class SpectralConv1d(_SpectralConv, nn.Conv1d):  # type: ignore[override, misc]
    """1d convolution with a spectral weight."""

    op = staticmethod(F.conv1d)


class SpectralConv2d(_SpectralConv, nn.Conv2d):  # type: ignore[override, misc]
    """2d convolution with a spectral weight."""

    op = staticmethod(F.conv2d)


class SpectralConv3d(_SpectralConv, nn.Conv3d):  # type: ignore[override, misc]
    """3d convolution with a spectral weight."""

    op = staticmethod(F.conv3d)


class _SpectralConvTranspose(_Convolution):
    """Transposed convolution (C_in, C_out / groups, *kernel); the matrix is C_out / groups x (C_in * kernel)."""

    transposed_op: ClassVar[Callable[..., Tensor]]

    @staticmethod
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        """Out channels of a group; in channels, then kernel sizes."""
        return layer.out_channels // layer.groups, (layer.in_channels, *layer.kernel_size)

    @staticmethod
    def to_matrix(weight: Tensor) -> Tensor:
        """Out channels first."""
        return weight.transpose(0, 1).flatten(1)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """In channels first again."""
        split = matrix.view(self.out_channels // self.groups, self.in_channels, *self.kernel_size)
        return split.transpose(0, 1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve (N, C_in, *space) or (C_in, *space), transposed."""
        before = input.numel() // self.in_channels
        after = before * math.prod(self.stride)
        channels = self.in_channels, self.out_channels // self.groups
        if self._choose(Workload(before, after * self.groups, before, *channels)) == "weight":
            return super().forward(input, output_size)  # type: ignore[misc, no-any-return]
        space = len(self.kernel_size)
        extra = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, space, self.dilation
        )
        left, right = self.factors.pair(self.index)
        rank = right.shape[1]
        thin = right.view(self.in_channels, -1, rank).mT.reshape(self.in_channels, rank, *self.kernel_size)
        batched = input.dim() == space + 2
        x = input if batched else input.unsqueeze(0)
        options = (self.stride, self.padding, extra, self.groups, self.dilation)
        codes = type(self).transposed_op(x, thin, None, *options)
        # Each group writes through the same U.
        folded = codes.reshape(-1, rank, *codes.shape[2:])
        out = type(self).op(folded, left.reshape(*left.shape, *(1,) * space))
        out = out.reshape(x.shape[0], -1, *out.shape[2:])
        if self.bias is not None:
            out = out + self.bias.view(-1, *(1,) * space)
        return out if batched else out.squeeze(0)


class SpectralConvTranspose1d(_SpectralConvTranspose, nn.ConvTranspose1d):  # type: ignore[override, misc]
    """1d transposed convolution with a spectral weight."""

    op, transposed_op = staticmethod(F.conv1d), staticmethod(F.conv_transpose1d)


class SpectralConvTranspose2d(_SpectralConvTranspose, nn.ConvTranspose2d):  # type: ignore[override, misc]
    """2d transposed convolution with a spectral weight."""

    op, transposed_op = staticmethod(F.conv2d), staticmethod(F.conv_transpose2d)


class SpectralConvTranspose3d(_SpectralConvTranspose, nn.ConvTranspose3d):  # type: ignore[override, misc]
    """3d transposed convolution with a spectral weight."""

    op, transposed_op = staticmethod(F.conv3d), staticmethod(F.conv_transpose3d)


LAYERS: dict[type[nn.Module], type[SpectralLayer]] = {
    nn.Linear: SpectralLinear,
    NonDynamicallyQuantizableLinear: SpectralLinear,
    nn.Embedding: SpectralEmbedding,
    nn.Conv1d: SpectralConv1d,
    nn.Conv2d: SpectralConv2d,
    nn.Conv3d: SpectralConv3d,
    nn.ConvTranspose1d: SpectralConvTranspose1d,
    nn.ConvTranspose2d: SpectralConvTranspose2d,
    nn.ConvTranspose3d: SpectralConvTranspose3d,
}
"""Kinds of layers that `reparameterize` reaches, and what they become."""
