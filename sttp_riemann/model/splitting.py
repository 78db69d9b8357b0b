"""Modules of a model that can be split: a layer for each matrix of a parameter that holds several."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from sttp_riemann.layers import Split, parts_of, split_for


@dataclass(frozen=True)
class Splitting:
    """A module with several matrices in one parameter, and a layer for each, which is not part of the model yet.

    Attributes
    ----------
    module : nn.Module
        The module.
    kind : type
        What it becomes.
    layers : dict
        Name inside the module to layer.
    """

    module: nn.Module
    kind: type[Split]
    layers: dict[str, nn.Module]

    def named(self, name: str) -> dict[str, nn.Module]:
        """The layers by their names in a model that has the module under this one."""
        return {f"{name}.{own}" if name else own: layer for own, layer in self.layers.items()}

    def meets(self, chosen: Collection[int]) -> bool:
        """Whether any of the layers is chosen, by its id."""
        return any(id(layer) in chosen for layer in self.layers.values())


def splittings_in(model: nn.Module) -> dict[str, Splitting]:
    """Modules with several matrices in one parameter, by every name that they have in the model.

    Parameters
    ----------
    model : nn.Module
        Not changed.

    Returns
    -------
    dict[str, Splitting]
        One for each module.
    """
    kinds = ((module, split_for(module)) for module in model.modules())
    made = {id(module): Splitting(module, kind, parts_of(kind, module)) for module, kind in kinds if kind is not None}
    every = model.named_modules(remove_duplicate=False)
    return {name: made[id(module)] for name, module in every if id(module) in made}


def split(splittings: Mapping[str, Splitting], chosen: Iterable[nn.Module]) -> None:
    """Split the modules with a layer that is chosen, in place.

    Parameters
    ----------
    splittings : mapping
        Result of `splittings_in`.
    chosen : iterable of nn.Module
        Layers.
    """
    ids = {id(layer) for layer in chosen}
    for own in {id(own.module): own for own in splittings.values()}.values():
        if own.meets(ids):
            own.kind.adopt(own.module, own.layers)
