"""Names of a file in the model that it is loaded into: transformers writes some under those of older releases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from sttp_riemann.model.splitting import splittings_in
from sttp_riemann.model.stored import EXTRA, Stored, under

Naming = Callable[[str], str | None]
"""From a name of the file's state to that of the model's; None for what it does not have."""


def naming(stored: Stored, model: nn.Module, prefixes: bool = False) -> Naming:
    """How the names of a file become those of a model.

    Parameters
    ----------
    stored : Stored
        The file.
    model : nn.Module
        Into which it is loaded.
    prefixes : bool
        Whether the file may be that of a base model, which is part of one with a head, or the other way round.

    Returns
    -------
    callable
        The way that finds most layers: that of the file itself, unless another one finds more.
    """
    known = {*dict(model.named_modules(remove_duplicate=False))}
    for name, splitting in splittings_in(model).items():
        known |= {*splitting.named(name)}
    start = f"{getattr(model, 'base_model_prefix', '')}."
    ways: list[Naming] = [lambda name: name]
    if prefixes:
        ways.append(lambda name: name.removeprefix(start) if name.startswith(start) else None)
        ways.append(lambda name: start + name)
    today = _of_today(model)
    ways += [_after(way, today) for way in ways]
    return max(ways, key=lambda way: sum(layer_named(way, name) in known for name in stored.layers))


def layer_named(way: Naming, name: str) -> str | None:
    """The name of a layer in the model."""
    new = way(under(name, EXTRA))
    return None if new is None else new.removesuffix(EXTRA).removesuffix(".")


def translated(stored: Stored, way: Naming) -> Stored:
    """A file by the names of a model, without what it does not have.

    Parameters
    ----------
    stored : Stored
        Not changed.
    way : callable
        Result of `naming`.

    Returns
    -------
    Stored
        Without what only `sttp_riemann.save` tells of the whole model.
    """
    tensors = {new: tensor for name, tensor in stored.tensors.items() if (new := way(name)) is not None}
    names = {name: new for name in stored.layers if (new := layer_named(way, name)) is not None}
    layers = {new: stored.layers[name] for name, new in names.items()}
    settings = {names[name]: own for name, own in stored.settings.items() if name in names}
    return Stored(stored.where, tensors, layers, settings)


def _after(way: Naming, first: Callable[[str], str]) -> Naming:
    return lambda name: way(first(name))


def _of_today(model: Any) -> Callable[[str], str]:
    """How transformers reads names of older releases, which it also writes."""
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is None and hasattr(model, "save_pretrained"):
        # Not there in releases before 5
        module = sys.modules.get("transformers.conversion_mapping")
        find = getattr(module, "get_model_conversion_mapping", None)
        conversions = None if find is None else find(model, add_legacy=False)
    # Others compute a tensor from several
    renamings = [own for own in conversions or () if not hasattr(own, "operations")]

    def renamed(name: str) -> str:
        for own in renamings:
            name, _ = own.rename_source_key(name)
        return name

    return renamed
