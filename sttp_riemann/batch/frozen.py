"""Weights that outlive a forward, for serving: built once, and never used where they might be stale."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sttp_riemann.batch.cached import KEEPER, Part, owners, places_of
from sttp_riemann.batch.owner import Owner
from sttp_riemann.checks import check_kind
from sttp_riemann.compat import PLAIN

KEPT = "_sttp_kept"
"""Attribute of a layer of a model whose weights are kept: what is kept for it."""


class Kept:
    """The weight of one layer, and what it was built from.

    Parameters
    ----------
    keeper : Frozen
        Keeps those of the whole model.
    layer : Owner
        Whose weight it is.
    part : Part
        Holds the results of the layer.
    place : int
        The layer's place in it.

    Attributes
    ----------
    factors : list of Tensor
        U diag(s) and V.
    """

    def __init__(self, keeper: Frozen, layer: Owner, part: Part, place: int) -> None:
        self.keeper, self._part, self._place = keeper, part, place
        self._weight: Tensor | None = None
        self._left, self._right = layer.left, layer.right
        own = layer.__dict__
        self._shape, self._options, self._dtype = own["shape"], own.get("options"), own["weight_dtype"]
        self._slots = [*_slots(layer, ("spectrum",)), *_slots(layer.left), *_slots(layer.right)]
        self.factors = part.get(place, "pairs")

    def weight(self) -> Tensor:
        """W, built when it is first asked for."""
        if self._weight is None:
            with torch.inference_mode(False), torch.no_grad():
                self._weight = self._part.weight(self._place)
        return self._weight

    def cores(self) -> list[Tensor]:
        """Frames and s of the trains, built when they are first asked for."""
        with torch.inference_mode(False), torch.no_grad():
            return self._part.get(self._place, "cores")

    def serves(self, layer: Owner) -> bool:
        """Whether the layer still has the tensors and options, unchanged."""
        # Asked in every forward, so nothing is looked up past a dictionary
        modules = layer._modules
        if modules["left"] is not self._left or modules["right"] is not self._right:
            return False
        # The tensor subclass of geoopt's parameters would only cost time
        with torch._C.DisableTorchFunctionSubclass():
            for holder, name, tensor, address, version in self._slots:
                if holder.get(name) is not tensor or tensor.data_ptr() != address:
                    return False
                if version is not None and tensor._version != version:
                    return False
        own = layer.__dict__
        same = own["shape"] is self._shape and own["weight_dtype"] is self._dtype
        return same and own.get("options") is self._options

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of the layer keep nothing
        return type(None), ()


_Slot = tuple[dict[str, Any], str, Tensor, int, int | None]


def _slots(module: nn.Module, names: tuple[str, ...] = ()) -> list[_Slot]:
    """Tensors that a module itself holds, all or some of them: where, and what tells that they were written to."""
    return [
        (holder, name, tensor, tensor.data_ptr(), None if tensor.is_inference() else tensor._version)
        for holder in (module._parameters, module._buffers)
        for name, tensor in holder.items()
        if tensor is not None and (not names or name in names)
    ]


def kept_for(layer: Owner) -> Kept | None:
    """What is kept for a layer and may be used in this forward.

    Parameters
    ----------
    layer : Owner
        Called outside of compilers and other transforms.

    Returns
    -------
    Kept or None
        None where nothing is kept; also in a differentiable forward or one in training, which ends all of it.
    """
    kept: Kept | None = layer.__dict__.get(KEPT)
    if kept is None:
        return None
    if layer.training or torch.is_grad_enabled():
        kept.keeper.release()
        return None
    if not kept.serves(layer):
        # A layer that was taken out of the model is not built again
        layer.__dict__.pop(KEPT, None)
        kept.keeper.build()
        kept = layer.__dict__.get(KEPT)
    return kept


class Frozen:
    """The kept weights of a model; see `frozen`.

    Parameters
    ----------
    model : nn.Module
        In evaluation.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers: list[Owner] = []
        self.build()

    def build(self) -> None:
        """Build the weights of all layers that the model has now."""
        self._forget()
        places, self._layers = places_of(self._model), owners(self._model)
        # What is built in inference mode could not serve other forwards
        with torch.inference_mode(False), torch.no_grad():
            for layer in self._layers:
                # Of a tensor that a parametrization computes, nobody could say whether it is still the same
                if not any(map(parametrize.is_parametrized, (layer, layer.left, layer.right))):
                    # Not setattr: it is no part of the module
                    layer.__dict__[KEPT] = Kept(self, layer, *places[id(layer)])

    def _forget(self) -> None:
        for layer in self._layers:
            own = layer.__dict__.get(KEPT)
            if own is not None and own.keeper is self:
                layer.__dict__.pop(KEPT, None)

    def release(self) -> None:
        """Give the weights up: later forwards build their own."""
        self._forget()
        if self._model.__dict__.get(KEEPER) is self:
            self._model.__dict__.pop(KEEPER, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of the model keep nothing
        return type(None), ()

    def __enter__(self) -> Frozen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def frozen(model: nn.Module) -> Frozen:
    """Keep the weights of a model in evaluation for all its forwards, on all threads, until told otherwise.

    A forward then costs what two thin layers cost, without a copy of the model as `decompress` makes one.

    Parameters
    ----------
    model : nn.Module
        A model with reparameterized layers, in evaluation.

    Returns
    -------
    Frozen
        Gives the weights up when `release` is called, or at the end of a ``with``.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        The model is in training, has no reparameterized layer, or its frames are sharded.

    Notes
    -----
    The weights are used without gradients only (`torch.no_grad`, `torch.inference_mode`). A differentiable forward, or
    one in training, gives them up, since an optimizer may follow. Parameters that were loaded, moved, cast, replaced or
    written in place are noticed, and the weights built anew. Only a write past autograd (``parameter.data.add_()``,
    collectives) is not: call `frozen` again.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Sequential(torch.nn.Linear(64, 32)), rank=4).eval()
    >>> inputs = torch.randn(8, 64)
    >>> with torch.no_grad(), sr.frozen(model):
    ...     outputs = [model(inputs) for _ in range(3)]
    >>> torch.equal(outputs[0], outputs[2])
    True
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    if model.training:
        raise ValueError("the model is in training, where weights change: call model.eval() before sr.frozen")
    layers = owners(model)
    if not layers:
        raise ValueError("the model has no reparameterized layer, so there is nothing to keep")
    if not all(PLAIN.issuperset(map(type, layer.factor_tensors())) for layer in layers):
        raise ValueError("the model's frames are sharded: gather them before sr.frozen")
    # Not setattr: it is no part of the module
    model.__dict__[KEEPER] = keeper = Frozen(model)
    return keeper
