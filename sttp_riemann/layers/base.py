"""Base class of all reparameterized layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize
from typing_extensions import override

from sttp_riemann.compat import in_transform
from sttp_riemann.frames import Frames
from sttp_riemann.layers.application import COSTS, Application, Costs, Workload, choose
from sttp_riemann.layers.recompute import Recompute, keeping, seen
from sttp_riemann.layers.writing import Weighted

OWN = (
    *("left", "right", "spectrum", "shape", "options", "weight_dtype", "application", "recompute", "memory"),
    *("room", "dense_error", "dense_class", "weight_hooks", "chosen"),
)
"""Attributes that a spectral layer adds to those of the ordinary one."""
STATIC: tuple[Application, ...] = ("factored", "weight")
MANY = 2**24
"""Assumed number of entries of an input of unknown size."""


class SpectralLayer(Weighted):  # type: ignore[override, misc]
    """An ordinary torch layer, except for where its weight W = U diag(s) V^T comes from.

    An existing layer becomes one in place (`adopt`): it keeps its bias, hooks, mode and identity, loses its weight
    parameter, and owns the cores of U and V and the spectrum instead.

    Attributes
    ----------
    application : {"auto", "weight", "factored", "train"}
        How the layer is applied: by building W, by V and then U, or (linear layers) core by core. Chosen by cost at
        each input's size unless set.
    recompute : {"auto", "always", "never"}
        Whether a layer applied as V^T and then U recomputes V^T x in the backward instead of keeping it; "auto" does so
        where it costs least per byte, and only as much as `memory` takes.
    memory : float
        With "auto": largest share of the memory that a training step of the dense network takes.
    room : float
        Numbers that low rank saves per layer of the model, on average. Until a step has been seen, "auto" keeps no
        V^T x that is larger.
    dense_error : float or None
        With ``init="dense"``: relative Frobenius error of W against the original weight, or relative root mean square
        error of the outputs if the moment of the inputs was given.
    """

    applications: ClassVar[tuple[Application, ...]] = STATIC
    costs: ClassVar[Costs] = COSTS
    application: Application
    recompute: Recompute
    memory: float
    dense_error: float | None
    dense_class: type[nn.Module]
    room: float
    # Of tensors that share memory, `save_pretrained` of transformers writes one if the names of the others match these
    _tied_weights_keys: ClassVar = {r"left\.": None, r"right\.": None, "spectrum": None}

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
    @override
    def to_matrix(weight: Tensor) -> Tensor:
        """Output channels as rows, everything else flattened into columns."""
        return weight if weight.ndim == 2 else weight.flatten(1)

    @staticmethod
    def columns(layer: nn.Module, input: Tensor) -> Tensor | None:
        """The columns that the layer's matrix multiplies.

        Parameters
        ----------
        layer : nn.Module
            An ordinary layer.
        input : Tensor
            An input of that layer.

        Returns
        -------
        Tensor or None
            (N, d_in), of the input at N places; None if the outputs are not a product of the matrix and such columns.
        """
        return None

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        raise NotImplementedError

    @classmethod
    def adopt(cls, layer: nn.Module, left: Frames, spectrum: nn.Parameter | None, right: Frames, **others: Any) -> None:
        """Turn an ordinary layer into one of this class, in place.

        Parameters
        ----------
        layer : nn.Module
            An ordinary layer; changed.
        left, spectrum, right : Frames, Parameter or None, Frames
            Its new parameters.
        **others
            The attributes `options`, `shape`, `recompute`, `memory`, `room` and `dense_error`.
        """
        dtype = layer._parameters.pop("weight").dtype  # type: ignore[union-attr]
        # Not setattr: in a spectral layer it would read the weight
        layer.__dict__.update(
            dense_class=kind_of(layer),
            weight_dtype=dtype,
            application="auto",
            weight_hooks=OrderedDict(),
            **others,
        )
        layer.register_parameter("spectrum", spectrum)
        layer.add_module("left", left)
        layer.add_module("right", right)
        layer.__class__ = _rebased(layer, cls)

    def release(self, weight: nn.Parameter) -> None:
        """Turn back into an ordinary layer, in place.

        Parameters
        ----------
        weight : nn.Parameter
            Its new weight.
        """
        kind, others = _rebased(self, self.dense_class), dict(self._parameters)
        for name in OWN:
            for own in (self.__dict__, self._modules, others):
                own.pop(name, None)  # type: ignore[attr-defined]
        self._parameters.clear()
        self._parameters.update(weight=weight, **others)
        self.__class__ = kind  # type: ignore[assignment]

    @torch.no_grad()
    def dense_weight(self) -> Tensor:
        """W for an ordinary layer, in memory of its own."""
        return self.built_weight().detach().clone()

    def thin_layers(self) -> nn.Sequential | None:
        """Two ordinary layers, V^T and then U diag(s), with the same outputs.

        Returns
        -------
        nn.Sequential or None
            None if they have no fewer parameters than the dense layer.
        """
        shape = self.shape
        fewer = shape.rank * (shape.d_out + shape.d_in) < shape.d_out * shape.d_in
        # Attention reads the weight of its output projection directly.
        if not fewer or self.dense_class is NonDynamicallyQuantizableLinear:
            return None
        with torch.no_grad():
            thin = self._thin_layers(*(factor.detach() for factor in self.factors())).train(self.training)
        bias = getattr(self, "bias", None)
        for name, parameter in thin.named_parameters():
            parameter.requires_grad_(bias.requires_grad if name == "1.bias" and bias is not None else self.trains)
        return thin

    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        raise NotImplementedError

    @override
    def extra_repr(self) -> str:
        """Options of the original layer, then the rank and the kind of frames."""
        return f"{super().extra_repr()}, rank={self.rank}, frames={self.frames}"

    def _keeping(self, codes: Tensor, encode: Callable[[], Tensor]) -> AbstractContextManager[None]:
        return keeping(self, codes, encode)

    def workload(self, entries: int) -> Workload:
        """The size of one call.

        Parameters
        ----------
        entries : int
            Entries of the input.

        Returns
        -------
        Workload
        """
        raise NotImplementedError

    def applied(self, sized: Tensor, *inputs: Any) -> Tensor:
        """The output of the layer, computed in the cheapest way or in that which `application` names.

        Parameters
        ----------
        sized : Tensor
            The input whose size decides.
        *inputs
            What `by_weight` and `by_factors` take.

        Returns
        -------
        Tensor
        """
        if torch.is_grad_enabled():
            return seen(self, sized, lambda: self._applied(self.choose(sized), *inputs))
        return self._applied(self.choose(sized), *inputs)

    def _applied(self, application: Application, *inputs: Any) -> Tensor:
        known = self._parameters
        bias = known["bias"] if "bias" in known else getattr(self, "bias", None)
        if application == "weight":
            return self.by_weight(self.built_weight(), bias, *inputs)
        return self.by_factors(application, bias, *inputs)

    def copies(self, input: Tensor) -> bool:
        """Whether the kernels of the ordinary layer copy what they read and write into a layout of their own."""
        return False

    def by_weight(self, weight: Tensor, bias: Tensor | None, *inputs: Any, **others: Any) -> Tensor:
        """Apply a weight as the ordinary layer does.

        Parameters
        ----------
        weight : Tensor
            In the shape of the layer's weight.
        bias : Tensor or None
            Added to the outputs.
        *inputs, **others
            What the layer gives to `applied`; nothing else.

        Returns
        -------
        Tensor
        """
        raise NotImplementedError

    def by_factors(self, application: Application, bias: Tensor | None, *inputs: Any, **others: Any) -> Tensor:
        """Apply U diag(s) V^T without building it.

        Parameters
        ----------
        application : {"factored", "train"}
            How.
        bias : Tensor or None
            Added to the outputs.
        *inputs, **others
            As `by_weight` takes them.

        Returns
        -------
        Tensor
        """
        raise NotImplementedError

    def choose(self, input: Tensor) -> Application:
        """How to apply the layer to this input.

        Parameters
        ----------
        input : Tensor
            An input of `forward`.

        Returns
        -------
        {"weight", "factored", "train"}

        Raises
        ------
        ValueError
            The layer does not support `application`.
        """
        if self.application != "auto" and self.application not in self.applications:
            kinds, name = ", ".join(("auto", *self.applications)), self.dense_class.__name__
            article = "an" if name[0] in "AEIOU" else "a"
            raise ValueError(f"{article} {name} cannot be applied as {self.application!r}; choose one of {kinds}")
        # For compilers, sizes may be symbols, and the search for a contraction order cannot be followed
        if in_transform():
            choices = [kind for kind in self.applications if kind in STATIC]
            if self.application not in choices:
                return choose(self.shape, self.workload(MANY), choices, self.costs)
        if self.application != "auto":
            return self.application
        # Most calls are like the one before
        own, entries = self.__dict__, input.numel()
        known = own.get("chosen")
        if known is None or known[0] is not own["shape"] or known[1] != entries:
            found = choose(self.shape, self.workload(entries), self.applications, self.costs)
            known = own["chosen"] = own["shape"], entries, found
        return known[2]  # type: ignore[no-any-return]


def filled(layer: Any, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """Set weight and bias of an ordinary layer.

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


def kind_of(layer: nn.Module) -> type[nn.Module]:
    """Class of a layer, looking through torch parametrizations of anything but its weight.

    Parameters
    ----------
    layer : nn.Module
        Any.

    Returns
    -------
    type
        The parametrized class itself if the weight is parametrized.
    """
    own = parametrize.is_parametrized(layer, "weight")
    return type(layer) if own else parametrize.type_before_parametrizations(layer)  # type: ignore[no-any-return]


def _rebased(layer: nn.Module, base: type[nn.Module]) -> type[nn.Module]:
    """`base`, or the layer's parametrized class derived from `base` instead."""
    if not parametrize.is_parametrized(layer):
        return base
    own = {name: value for name, value in vars(type(layer)).items() if name not in ("__dict__", "__weakref__")}
    return type(type(layer).__name__, (base,), own)
