"""Which layers of a model are reparameterized."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sttp_riemann.layers import LAYERS, SpectralLayer


def select_layers(model: nn.Module, exclude: str | Sequence[str]) -> dict[str, nn.Module]:
    """Layers to reparameterize, by name, each once.

    Parameters
    ----------
    model : nn.Module
        The model.
    exclude : str or sequence of str
        Names of layers or of modules that hold some, or patterns with ``*`` and ``?``.

    Returns
    -------
    dict[str, nn.Module]
        In the order of the model.

    Raises
    ------
    ValueError
        If there is no layer to change, a name matches none, a layer was reparameterized before, or its weight cannot
        be replaced.
    """
    done = [name for name, layer in model.named_modules() if isinstance(layer, SpectralLayer)]
    if done:
        raise ValueError(
            f"layer {done[0]!r} is reparameterized already; call decompress first, or pass only the part of the model "
            "that is still dense"
        )
    found = {name: layer for name, layer in model.named_modules() if type(layer) in LAYERS}
    names = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    kept_dense = {name for entry in names for name in matching("exclude", entry, list(found))}
    chosen = {name: layer for name, layer in found.items() if name not in kept_dense}
    if not chosen:
        kinds = ", ".join(kind.__name__ for kind in LAYERS if kind.__name__ in vars(nn))
        excluded = ", all of them excluded" if found else ""
        raise ValueError(f"the model has no layers to change{excluded}; reparameterize reaches {kinds}")
    _warn_of_subclasses(model)
    for name, layer in chosen.items():
        _check(name, layer)
    _check_unshared(model, chosen)
    return chosen


def matching(option: str, entry: str, names: list[str]) -> list[str]:
    """Layers that an entry of an option means: a name, the name of a module that holds some, or a pattern.

    Raises
    ------
    ValueError
        It means none.
    """
    found = [n for n in names if n == entry or n.startswith(f"{entry}.") or fnmatchcase(n, entry)]
    if not found:
        close = difflib.get_close_matches(entry, names, n=3) or names[:6]
        raise ValueError(f"{option} names {entry!r}, which matches no layer that can be changed; such as {close}")
    return found


def _warn_of_subclasses(model: nn.Module) -> None:
    kinds = tuple(LAYERS)
    left = [name for name, layer in model.named_modules() if isinstance(layer, kinds) and type(layer) not in LAYERS]
    if left:
        warnings.warn(
            f"layers of own classes are left as they are, as their forward is not known: {', '.join(left)}",
            stacklevel=4,
        )


def _check(name: str, layer: Any) -> None:
    kind = type(layer).__name__
    weight = layer._parameters.get("weight")
    if weight is None:
        raise ValueError(
            f"the weight of layer {name!r} ({kind}) is not a plain parameter: remove its parametrization or pruning "
            "first, or exclude it"
        )
    if not weight.is_floating_point():
        raise ValueError(f"the weight of layer {name!r} ({kind}) is {weight.dtype}, not floating point; exclude it")
    if not weight.numel():
        raise ValueError(f"the weight of layer {name!r} ({kind}) is empty, {tuple(weight.shape)}; exclude it")
    if isinstance(layer, nn.Embedding):
        for option in ("max_norm", "sparse", "scale_grad_by_freq"):
            if getattr(layer, option):
                raise ValueError(f"layer {name!r}: an embedding with {option} cannot be reparameterized; exclude it")


def _check_unshared(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    owners: dict[int, str] = {}
    weights = {id(layer._parameters["weight"]) for layer in chosen.values()}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if id(parameter) not in weights:
                continue
            if id(parameter) in owners:
                raise ValueError(
                    f"layers {owners[id(parameter)]!r} and {name!r} share one weight; exclude both, or untie them first"
                )
            owners[id(parameter)] = name
