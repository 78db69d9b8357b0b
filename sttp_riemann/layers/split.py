"""Modules with several matrices in one parameter: each matrix becomes the weight of a layer inside the module."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from sttp_riemann.checks import check_tensor
from sttp_riemann.compat import in_transform
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.layers.tracing import opaque
from sttp_riemann.layers.weight import guarded

Pieces = dict[str, tuple[str, ...]]
"""Names of parameters, and of the layers that hold their matrices."""


class _Joined(threading.local):
    """Parameters that were joined in the calls that are running on this thread, by module."""

    def __init__(self) -> None:
        self.open: dict[int, dict[tuple[str, bool, bool], Tensor]] = {}


_JOINED = _Joined()


class Split(nn.Module):
    """A module that finds its parameters as before, joined from the weights of layers.

    A kind is a class of this one and of the ordinary module, with `ordinary` and `pieces_of`, and a row in `SPLITS`.

    Attributes
    ----------
    pieces : dict
        Names of the parameters, and of the layers that hold their matrices.
    ordinary : type
        The class before.
    """

    ordinary: ClassVar[type[nn.Module]]
    pieces: Pieces

    @classmethod
    def pieces_of(cls, module: nn.Module) -> Pieces:
        """Parameters of an ordinary module that are split, and names for the layers.

        Parameters
        ----------
        module : nn.Module
            Of the class `ordinary`.

        Returns
        -------
        dict
            Of three dimensions, it is split along the first, and names are ``container.0``, ``container.1``, ..;
            of two, into equal numbers of rows.
        """
        raise NotImplementedError

    @staticmethod
    def as_matrices(module: Any, parameter: Tensor) -> Tensor:
        """A parameter in the shape in which it is split, as a view; see `pieces_of`."""
        return parameter

    @staticmethod
    def as_parameter(joined: Tensor) -> Tensor:
        """Matrices that are joined in that shape, in the shape of the parameter."""
        return joined

    @classmethod
    def adopt(cls, module: Any, parts: dict[str, nn.Module]) -> None:
        """Split an ordinary module, in place.

        Parameters
        ----------
        module : nn.Module
            Changed.
        parts : dict
            Result of `parts_of`; weights that stay dense get memory of their own.
        """
        pieces = cls.pieces_of(module)
        for name in pieces:
            del module._parameters[name]
        module.__class__ = cls
        module.pieces = pieces
        others = dict(module._modules)
        module._modules.clear()
        for name, part in parts.items():
            weight = part._parameters.get("weight")
            if weight is not None:
                part.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
            *containers, last = name.split(".")
            inner = module
            for container in containers:
                if container not in inner._modules:
                    inner.add_module(container, nn.ModuleList().train(module.training))
                inner = inner.get_submodule(container)
            inner.add_module(last, part.train(module.training))
        module._modules.update(others)

    def release(self) -> None:
        """Turn back into an ordinary module, in place; its layers are ordinary already."""
        own = {}
        for name, pieces in self.pieces.items():
            layers = self.layers(name)
            trained = any(layer.weight.requires_grad for layer in layers)
            own[name] = nn.Parameter(self._join(layers, pieces).detach(), trained)
            for piece in pieces:
                self._modules.pop(piece.split(".")[0], None)
        others = {name: held for name, held in self._parameters.items() if name not in own}
        self._parameters.clear()
        self._parameters.update({**own, **others})
        del self.pieces
        self.__class__ = self.ordinary  # type: ignore[assignment]

    @override
    @opaque
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As before; each parameter is joined once."""
        if in_transform():
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        before, _JOINED.open[id(self)] = _JOINED.open.get(id(self)), {}
        try:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        finally:
            _JOINED.open.pop(id(self))
            if before is not None:
                _JOINED.open[id(self)] = before

    def joined(self, name: str) -> Tensor:
        """A parameter, computed from the weights of its layers; read-only.

        Parameters
        ----------
        name : str
            Of the parameter.

        Returns
        -------
        Tensor
        """
        layers = self.layers(name)
        if not _stacked(self.pieces[name]) and len(layers) == 1:
            return layers[0].weight  # type: ignore[no-any-return]
        if in_transform():
            return self._join(layers, self.pieces[name])
        known = _JOINED.open.get(id(self), {})
        key = name, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if key not in known:
            known[key] = guarded(self._join(layers, self.pieces[name]), lambda: _Writable(layers))
        return known[key]

    def _join(self, layers: list[Any], names: tuple[str, ...]) -> Tensor:
        weights = [layer.built_weight() if isinstance(layer, SpectralLayer) else layer.weight for layer in layers]
        return self.as_parameter(torch.stack(weights) if _stacked(names) else torch.cat(weights))

    def layers(self, name: str) -> list[Any]:
        """The layers that hold the matrices of a parameter.

        Raises
        ------
        RuntimeError
            One was replaced by a module whose forward would never be called.
        """
        layers = [self.get_submodule(own) for own in self.pieces[name]]
        for own, layer in zip(self.pieces[name], layers, strict=True):
            if not isinstance(layer, SpectralLayer | nn.Linear):
                raise RuntimeError(
                    f"{own} of a {self.ordinary.__name__} is now a {type(layer).__name__}, but only its weight is read "
                    "and it is never called: put the layer back, or change sr.decompress(model) instead"
                )
        return layers

    def __getattr__(self, name: str) -> Any:
        return self.joined(name) if name in self.__dict__.get("pieces", ()) else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__.get("pieces", ()):
            super().__setattr__(name, value)
            return
        layers = self.layers(name)
        given = check_tensor(name, value, self.joined(name).shape)
        for layer, matrix in zip(layers, matrices(self.as_matrices(self, given), len(layers)), strict=True):
            layer.weight = matrix if isinstance(layer, SpectralLayer) else nn.Parameter(matrix.clone())


class _Writable:
    """Freezes and refuses hooks for a parameter that is joined from layers."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers

    @property
    def trains(self) -> bool:
        return any(own.trains if isinstance(own, SpectralLayer) else own.weight.requires_grad for own in self.layers)

    def freeze(self, frozen: bool = True) -> None:
        for layer in self.layers:
            if isinstance(layer, SpectralLayer):
                layer.freeze(frozen)
            else:
                layer.weight.requires_grad_(not frozen)

    def hook_weight(self, weight: Tensor, hook: Any) -> RemovableHandle:
        raise RuntimeError(
            "this parameter is joined from the weights of layers in each forward, so the hook would never be called: "
            "register it on a layer's weight"
        )


def _stacked(names: tuple[str, ...]) -> bool:
    """Whether layers with these names hold the matrices of a parameter of three dimensions."""
    return "." in names[0]


def matrices(tensor: Tensor, count: int) -> tuple[Tensor, ...]:
    """The matrices that a parameter holds.

    Parameters
    ----------
    tensor : Tensor
        (count, rows, columns) or (count * rows, columns).
    count : int
        How many.

    Returns
    -------
    tuple of Tensor
        (rows, columns) each; views.
    """
    return tensor.unbind() if tensor.dim() == 3 else tensor.chunk(count)


def parts_of(kind: type[Split], module: nn.Module) -> dict[str, nn.Module]:
    """Layers for the matrices of an ordinary module, which is not changed.

    Parameters
    ----------
    kind : type
        What the module may become.
    module : nn.Module
        Of the class ``kind.ordinary``.

    Returns
    -------
    dict[str, nn.Module]
        By the names that they would have inside it; their weights are views of its parameters.
    """
    parts: dict[str, nn.Module] = {}
    for name, layers in kind.pieces_of(module).items():
        held = module._parameters[name]
        assert held is not None
        for own, matrix in zip(layers, matrices(kind.as_matrices(module, held.detach()), len(layers)), strict=True):
            # The class that says that its weight is read by others
            part = NonDynamicallyQuantizableLinear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
            part.weight = nn.Parameter(matrix, held.requires_grad)
            parts[own] = part
    return parts
