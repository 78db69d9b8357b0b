"""What is written of a reparameterized model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sttp_riemann.checks import shown
from sttp_riemann.frames import Frames, frames_kind
from sttp_riemann.layers import Adapted, SpectralLayer
from sttp_riemann.layers.adapted import FROZEN
from sttp_riemann.layers.options import encode
from sttp_riemann.model.conversion import in_kind
from sttp_riemann.model.measures import finite_layers
from sttp_riemann.model.packing import SMALLEST, pack
from sttp_riemann.model.stored import EXTRA, first_names, of_sealed, under
from sttp_riemann.sealed import digest

Sides = tuple[Frames, Frames]


def content(model: nn.Module, compact: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is written of a model.

    Parameters
    ----------
    model : nn.Module
        Reparameterized.
    compact : bool
        Whether frames are written in the kind that stores as many numbers as they have degrees of freedom, and all
        tensors in few flat ones.

    Returns
    -------
    tensors : dict[str, Tensor]
        Its state, each tensor once; see `pack` for what it is where it is compact.
    values : dict
        For the header; `Stored` tells what is in it.

    Raises
    ------
    ValueError
        Something in the state cannot be saved, an attribute of a layer has a value that it cannot have, or a layer that
        is to be compact holds NaN.
    """
    spectral = {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, SpectralLayer)}
    smaller = _smaller(model, spectral) if compact else {}
    state = _state(model, spectral, smaller)
    for name, tensor in state.items():
        _check_savable(name, tensor)
    layers = {
        name: {
            **layer.told(SMALLEST if name in smaller else None),
            "weight": list(layer.from_matrix(layer._empty_matrix()).shape),
            "application": layer.application,
            "recompute": layer.recompute,
            "memory": layer.memory,
            "room": layer.room,
            "dense_error": layer.dense_error,
        }
        for name, layer in spectral.items()
    }
    tied = {name: first for name, first in first_names(state).items() if name != first}
    frozen = [name for name, tensor in state.items() if isinstance(tensor, nn.Parameter) and not tensor.requires_grad]
    base = _base(spectral, {name: state[name] for name in frozen if name not in tied})
    tensors = {name: tensor for name, tensor in state.items() if name not in tied and name not in base}
    values = {"layers": layers, "tied": tied, "frozen": frozen, **({"base": base} if base else {})}
    of_sealed("the model", tensors, values)
    if not compact:
        return tensors, values
    flat, layout = pack(tensors, {under(name, EXTRA) for name in spectral})
    frames = {name: spectral[name].frames for name in smaller}
    # What is the same in all layers is told once
    first = next(iter(layers.values()))
    common = {key: first[key] for key in first if all(key in own and own[key] == first[key] for own in layers.values())}
    differ = {name: {key: own[key] for key in own if key not in common} for name, own in layers.items()}
    return flat, {**values, "layers": differ, "packed": {"layout": layout, "frames": frames, "common": common}}


def _smaller(model: nn.Module, spectral: Mapping[str, SpectralLayer]) -> dict[str, Sides]:
    """Frames of the kind without redundant numbers, in place of those that have some."""
    finite_layers(model)
    found: dict[int, Sides] = {}
    for layer in spectral.values():
        if not layer.left.canonical and id(layer.left) not in found:
            found[id(layer.left)] = in_kind(layer, frames_kind(SMALLEST, layer.options.pivots))
    return {name: found[id(layer.left)] for name, layer in spectral.items() if id(layer.left) in found}


def _state(
    model: nn.Module, spectral: Mapping[str, SpectralLayer], smaller: Mapping[str, Sides]
) -> dict[str, Tensor | Any]:
    """The state of the model with other frames in some of its layers."""
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    for name, sides in smaller.items():
        for side, frames in zip(("left", "right"), sides, strict=True):
            for key in [key for key in state if key.startswith(under(name, f"{side}."))]:
                del state[key]
            state.update(
                {under(name, f"{side}.{k}"): tensor for k, tensor in frames.state_dict(keep_vars=True).items()}
            )
        state[under(name, EXTRA)] = encode(spectral[name].told(SMALLEST))
    return state


def _base(spectral: Mapping[str, SpectralLayer], frozen: Mapping[str, Tensor]) -> dict[str, str]:
    """Of a model with adapters: what it has in common with the pretrained one, and digests of it."""
    adapters = {name: layer for name, layer in spectral.items() if isinstance(layer, Adapted)}
    if not adapters:
        return {}
    for name, layer in adapters.items():
        if layer.start_left is not None and layer.cast:
            raise ValueError(
                f"layer {name!r} of the model was cast after adapt(start='pissa'), so its frozen weight cannot be "
                "found again from the pretrained one: cast before adapt, or save model.state_dict()"
            )
    kept = {under(name, part) for name in spectral for part in ("spectrum", *FROZEN[1:])}
    cores = tuple(under(name, f"{side}.") for name in spectral for side in ("left", "right"))
    return {
        name: digest({"": tensor}) for name, tensor in frozen.items() if name not in kept and not name.startswith(cores)
    }


def _check_savable(name: str, tensor: Any) -> None:
    plain = isinstance(tensor, Tensor) and not is_lazy(tensor) and tensor.layout == torch.strided
    if not plain or tensor.is_meta or tensor.is_quantized or hasattr(tensor, "__tensor_flatten__"):
        kind = shown(tensor) if not plain or not tensor.is_meta else "on the meta device, without numbers"
        raise ValueError(
            f"the state of the model has {name!r}, {kind}: only plain tensors are saved; gather a sharded model first"
        )
