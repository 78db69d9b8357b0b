"""What all reparameterized layers share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sttp_riemann.application import Application, Workload, choose
from sttp_riemann.factors import SpectralFactors
from sttp_riemann.layers.recompute import Recompute, keeping
from sttp_riemann.reuse import in_transform


class SpectralLayer(nn.Module):  # type: ignore[override, misc]
    """An ordinary torch layer, except for where its weight W = U diag(s) V^T comes from.

    An existing layer becomes one in place (`adopt`): it keeps its bias, hooks, mode and identity, and loses its weight
    parameter. The factors of all layers of a model live in one `SpectralFactors`.

    Attributes
    ----------
    application : {"auto", "weight", "factored", "train"}
        How the layer is applied: by building W, by V and then U, or (linear layers) core by core. Chosen by cost at
        each input's size unless set.
    recompute : {"auto", "always", "never"}
        Whether a layer applied as V^T and then U computes V^T x again in the backward, instead of keeping it; "auto"
        does where it is larger than what low rank saves a layer (`SpectralFactors.room`).
    dense_error : float or None
        With ``init="dense"``: relative Frobenius error of W against the weight that was there; of its outputs, in the
        root mean square, where their inputs' moment was given.
    """

    applications: ClassVar[tuple[Application, ...]] = ("factored", "weight")
    application: Application
    recompute: Recompute
    dense_error: float | None
    dense_class: type[nn.Module]
    factors: SpectralFactors
    index: int

    @staticmethod
    def matrix_shape(layer: nn.Module) -> tuple[int, tuple[int, ...]]:
        """Rows of the layer's matrix, and its columns as input channels followed by kernel sizes.

        Parameters
        ----------
        layer : nn.Module
            An ordinary layer.

        Returns
        -------
        tuple
            d_out, and the tuple whose product is d_in.
        """
        raise NotImplementedError

    @staticmethod
    def to_matrix(weight: Tensor) -> Tensor:
        """The matrix of a weight.

        Parameters
        ----------
        weight : Tensor
            In the shape that the ordinary layer has it.

        Returns
        -------
        Tensor
            (d_out, d_in).
        """
        return weight.flatten(1)

    @staticmethod
    def columns(layer: nn.Module, input: Tensor) -> Tensor | None:
        """What the layer's matrix is multiplied with.

        Parameters
        ----------
        layer : nn.Module
            An ordinary layer.
        input : Tensor
            Of that layer.

        Returns
        -------
        Tensor or None
            (N, d_in), of the input at N places; None where the outputs are no product of the matrix and such columns.
        """
        return None

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Undo `to_matrix`.

        Parameters
        ----------
        matrix : Tensor
            (d_out, d_in).

        Returns
        -------
        Tensor
            In the shape of the ordinary layer's weight.
        """
        raise NotImplementedError

    @classmethod
    def adopt(
        cls, layer: nn.Module, factors: SpectralFactors, index: int, dense_error: float | None, recompute: Recompute
    ) -> None:
        """Turn an ordinary layer into one of this class, in place.

        Parameters
        ----------
        layer : nn.Module
            An ordinary layer; changed.
        factors : SpectralFactors
            Where its weight comes from.
        index : int
            The layer's place there.
        dense_error : float or None
            As the attribute.
        recompute : {"auto", "always", "never"}
            As the attribute.
        """
        del layer._parameters["weight"]
        # Not by setattr, which would register the shared factors as a child of every layer.
        layer.__dict__.update(
            dense_class=type(layer),
            factors=factors,
            index=index,
            application="auto",
            recompute=recompute,
            dense_error=dense_error,
        )
        layer.__class__ = cls

    def release(self) -> None:
        """Turn back into an ordinary layer with the weight as it is now, in place."""
        weight = nn.Parameter(self.weight.detach().clone(), requires_grad=self.weight.requires_grad)
        dense_class, others = self.dense_class, dict(self._parameters)
        for name in ("dense_class", "factors", "index", "application", "recompute", "dense_error"):
            del self.__dict__[name]
        self._parameters.clear()
        self._parameters.update(weight=weight, **others)
        self.__class__ = dense_class  # type: ignore[assignment]

    def thin_layers(self) -> nn.Sequential | None:
        """Two ordinary layers, V^T and then U diag(s), that compute the same.

        Returns
        -------
        nn.Sequential or None
            None where they have no fewer numbers than the dense layer.
        """
        shape = self.factors.shapes[self.index]
        # Attention reads the weight of its output projection itself.
        if (
            self.dense_class is NonDynamicallyQuantizableLinear
            or shape.rank * (shape.d_out + shape.d_in) >= shape.d_out * shape.d_in
        ):
            return None
        with torch.no_grad():
            left, right = self.factors.pair(self.index)
            return self._thin_layers(left.detach(), right.detach()).train(self.training)

    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        raise NotImplementedError

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

    def _keeping(self, codes: Tensor, encode: Callable[[], Tensor]) -> AbstractContextManager[None]:
        return keeping(codes, encode, self.recompute, self.factors.room)

    def _choose(self, work: Workload) -> Application:
        if self.application != "auto" and self.application not in self.applications:
            kinds = ", ".join(("auto", *self.applications))
            raise ValueError(f"a {self.dense_class.__name__} cannot be applied as {self.application!r}, but as {kinds}")
        # Compilers cannot follow the search for a contraction order; factor by factor gives the same.
        choices = tuple(c for c in self.applications if c != "train") if in_transform() else self.applications
        if self.application in choices:
            return self.application
        return choose(self.factors.shapes[self.index], work, choices)


def filled(layer: Any, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """An ordinary layer with these numbers.

    Parameters
    ----------
    layer : nn.Module
        Changed in place.
    weight : Tensor
        In the layer's shape; copied.
    bias : Tensor, optional
        Copied; None for no bias.

    Returns
    -------
    nn.Module
        The same layer.
    """
    layer.weight = nn.Parameter(weight.clone())
    layer.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return layer
