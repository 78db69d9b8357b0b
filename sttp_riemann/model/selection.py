"""Which layers of a model are reparameterized."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sttp_riemann.errors import one_line
from sttp_riemann.layers import LAYERS, SpectralLayer, kind_of, row_for
from sttp_riemann.layers.base import OWN
from sttp_riemann.layers.state import Parameterized
from sttp_riemann.layers.writing import Weighted
from sttp_riemann.model.reach import is_subclass
from sttp_riemann.model.splitting import Splitting
from sttp_riemann.model.weights import matching, names_in

NAMES = tuple(
    name
    for name in {*OWN, *vars(Parameterized), *vars(Weighted), *vars(SpectralLayer)}
    if name[0] != "_" and name != "weight"
)
"""Attributes that a spectral layer has and an ordinary one does not."""
HELD = ("_parameters", "_buffers", "_modules")


def select_layers(
    model: nn.Module, exclude: str | Sequence[str], splittings: Mapping[str, Splitting] | None = None
) -> dict[str, list[nn.Module]]:
    """Layers to reparameterize, grouped by shared weight.

    Parameters
    ----------
    model : nn.Module
        The model. Layers that are already reparameterized are skipped.
    exclude : str or sequence of str
        Names of layers or of modules that contain some, or patterns with ``*`` and ``?``.
    splittings : mapping, optional
        Result of `splittings_in`, whose layers are selected, too.

    Returns
    -------
    dict[str, list of nn.Module]
        By the name of the group's first layer, in the order of the model.

    Raises
    ------
    ValueError
        If there is no layer to change, a name matches no layer, or a weight cannot be replaced.
    """
    return _thawed(model, chosen_layers(model, exclude, splittings))


def chosen_layers(
    model: nn.Module,
    exclude: str | Sequence[str],
    splittings: Mapping[str, Splitting] | None = None,
    include: str | Sequence[str] | None = None,
    verb: str = "reparameterize",
) -> dict[str, list[nn.Module]]:
    """Layers that can be changed, frozen or not, grouped by shared weight.

    Parameters
    ----------
    model : nn.Module
        The model. Layers that have been changed already are skipped.
    exclude : str or sequence of str
        Names of layers or of modules that contain some, or patterns with ``*`` and ``?``.
    splittings : mapping, optional
        Result of `splittings_in`, whose layers are selected, too.
    include : str or sequence of str, optional
        In the same form: those that are not excluded of them; by default of all.
    verb : str
        What is going to change them, for messages.

    Returns
    -------
    dict[str, list of nn.Module]
        As `select_layers` returns it.

    Raises
    ------
    ValueError
        As there.
    """
    done = spectral_names(model)
    found: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        if row_for(kind_of(layer)) is not None:
            found[name] = layer
        found |= splittings[name].named(name) if splittings and name in splittings else {}
    names = names_in(exclude)
    kept_dense = {name for entry in names for name in matching("exclude", entry, [*found, *done])}
    if include is not None:
        wanted = {name for e in names_in(include, "include") for name in matching("include", e, [*found, *done])}
        kept_dense |= found.keys() - wanted
    chosen = {name: layer for name, layer in found.items() if name not in kept_dense}
    if not chosen and done:
        raise ValueError(
            f"layer {done[0]!r} is reparameterized already, and nothing else is left to change; call decompress first "
            "to choose other options"
        )
    if not chosen:
        kinds = ", ".join(kind.__name__ for kind in LAYERS if kind.__name__ in vars(nn))
        options = "exclude leaves all of them" if include is None else "include and exclude leave none of them"
        excluded = f", as {options}" if found else ""
        raise ValueError(f"the model has no layers to change{excluded}; {verb} reaches {kinds}")
    return grouped(model, chosen, splittings)


def grouped(
    model: nn.Module, chosen: dict[str, nn.Module], splittings: Mapping[str, Splitting] | None = None
) -> dict[str, list[nn.Module]]:
    """Check that layers can be reparameterized, and group them by shared weight.

    Parameters
    ----------
    model : nn.Module
        The model.
    chosen : dict[str, nn.Module]
        Ordinary layers of it, of kinds in `LAYERS`, or of `splittings`.
    splittings : mapping, optional
        Result of `splittings_in`.

    Returns
    -------
    dict[str, list of nn.Module]
        By the name of the group's first layer.

    Raises
    ------
    ValueError
        A weight cannot be replaced.
    """
    for name, layer in chosen.items():
        _check(name, layer)
    _check_shared(model, chosen, splittings or {})
    return _with_twins(model, chosen)


def untied_layers(model: nn.Module, exclude: str | Sequence[str]) -> list[nn.Module]:
    """Layers as `select_layers` finds them; layers that share a weight are refused.

    Raises
    ------
    ValueError
        As there, or a weight is shared.
    """
    found = select_layers(model, exclude)
    for name, twins in found.items():
        if len(twins) > 1:
            raise ValueError(f"layer {name!r} and another share one weight; exclude both, or untie them first")
    return [layer for (layer,) in found.values()]


def spectral_names(model: nn.Module) -> list[str]:
    """Names of the layers that are reparameterized."""
    return [name for name, layer in model.named_modules() if isinstance(layer, SpectralLayer)]


def _thawed(model: nn.Module, found: dict[str, list[nn.Module]]) -> dict[str, list[nn.Module]]:
    """Without frozen weights, which are to stay as they are; a model that is frozen as a whole does not say which."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return found
    thawed = {name: twins for name, twins in found.items() if weight_of(twins[0]).requires_grad}
    if not thawed:
        raise ValueError(
            f"the weight of layer {next(iter(found))!r} is frozen, as those of all layers to change are; call "
            "requires_grad_(True) on them first, and freeze them again afterwards"
        )
    return thawed


def without_zeros(found: dict[str, list[nn.Module]]) -> dict[str, list[nn.Module]]:
    """Layers with a weight that is not all zero: s = bound * S / max|S| cannot be zero.

    Parameters
    ----------
    found : dict
        Result of `select_layers`.

    Returns
    -------
    dict
        Some of it; a warning names the others.

    Raises
    ------
    ValueError
        All weights are zero.
    """
    kept = {name: twins for name, twins in found.items() if weight_of(twins[0]).any()}
    if not kept:
        raise ValueError(
            f"layer {next(iter(found))!r} is all zero, so a learned spectrum has no scale there; use spectrum='free' "
            "or another init"
        )
    if len(kept) < len(found):
        names = ", ".join(name for name in found if name not in kept)
        text = f"layers that are all zero are left as they are, as a learned spectrum has no scale there: {names}"
        warnings.warn(one_line(f"{text}; use spectrum='free' or another init for them"), stacklevel=3)
    return kept


def weight_of(layer: nn.Module) -> nn.Parameter:
    """The weight of an ordinary layer."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def _check(name: str, layer: Any) -> None:
    kind = type(layer).__name__
    weight = layer._parameters.get("weight")
    taken = [own for own in NAMES if own in layer.__dict__ or any(own in vars(layer)[held] for held in HELD)]
    if taken:
        raise ValueError(
            f"layer {name!r} ({kind}) has an attribute {taken[0]!r} already, which a spectral layer needs for itself; "
            "rename it, or exclude the layer"
        )
    if weight is None:
        raise ValueError(
            f"the weight of layer {name!r} ({kind}) is not a plain parameter: remove its parametrization or pruning "
            "first, or exclude it"
        )
    if not weight.is_floating_point():
        raise ValueError(f"the weight of layer {name!r} ({kind}) is {weight.dtype}, not floating point; exclude it")
    if not weight.numel():
        raise ValueError(f"the weight of layer {name!r} ({kind}) is empty, {tuple(weight.shape)}; exclude it")
    row = LAYERS[kind_of(layer)]
    rows, columns = row.matrix_shape(layer)
    if tuple(row.to_matrix(weight.detach()).shape) != (rows, math.prod(columns)):
        raise ValueError(
            f"the weight of layer {name!r} ({kind}) is {tuple(weight.shape)}, not as its base class stores it; exclude "
            "the layer"
        )
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        for option in ("max_norm", "sparse", "scale_grad_by_freq"):
            if getattr(layer, option):
                raise ValueError(f"layer {name!r}: an embedding with {option} cannot be reparameterized; exclude it")


def _check_shared(model: nn.Module, chosen: dict[str, nn.Module], splittings: Mapping[str, Splitting]) -> None:
    held = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    split = {id(layer) for layer in chosen.values()}
    for name, own in splittings.items():
        for parameter in own.kind.pieces_of(own.module) if own.meets(split) else ():
            if held[id(own.module._parameters[parameter])] > 1:
                raise ValueError(
                    f"{parameter} of {name!r} is shared with another module, so it cannot be split; exclude "
                    f"{f'{name}.*'.lstrip('.')!r}, or untie it first"
                )


def _with_twins(model: nn.Module, chosen: dict[str, nn.Module]) -> dict[str, list[nn.Module]]:
    """Each weight once, with all layers that hold it."""
    names = {id(layer): name for name, layer in chosen.items()}
    first: dict[int, str] = {}
    found: dict[str, list[nn.Module]] = {}
    for name, layer in chosen.items():
        own = first.setdefault(id(layer._parameters["weight"]), name)
        found.setdefault(own, []).append(layer)
    for name, module in model.named_modules():
        for held, parameter in module._parameters.items():
            own = first.get(id(parameter))  # type: ignore[assignment]
            if own is None:
                continue
            if id(module) not in names or held != "weight" or _view(module) != _view(chosen[own]):
                raise ValueError(f"layers {own!r} and {name!r} share one weight, {_why_apart(module, held, names)}")
    return found


def _why_apart(module: nn.Module, held: str, chosen: Mapping[int, str]) -> str:
    """Why a module cannot share the cores of a weight that it shares, and what to do."""
    kind = type(module).__name__
    if is_subclass(module):
        return (
            f"and the second is a {kind}, which is not known: sr.register_layer({kind}) lets both have the same cores"
        )
    if held == "weight" and id(module) not in chosen and row_for(kind_of(module)) is not None:
        return "and the second is excluded: exclude both, or none"
    return "but not as one matrix that both could parameterize; exclude both, or untie them first"


def _view(layer: nn.Module) -> tuple[object, ...]:
    kind = LAYERS[kind_of(layer)]
    return kind.matrix_shape(layer), kind.to_matrix
