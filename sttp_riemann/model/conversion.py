"""Store the same weights in another kind of frame."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from sttp_riemann.checks import check_choice
from sttp_riemann.frames import FRAMES, Frames, frames_kind
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.measures import finite_layers
from sttp_riemann.trains.start import LayerCores


def convert_frames(model: nn.Module, frames: str) -> nn.Module:
    """Store the same weights in another kind of frame, in place and exactly.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. Recreate the optimizer that trains it.
    frames : {"riemannian", "householder"}
        The new kind.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        The model is not a module.
    ValueError
        The kind is unknown, or the model has no reparameterized layer or one that holds NaN.

    Notes
    -----
    Reflectors of a frame are those of its QR factorization (Golub and Van Loan 2013, Section 5.2).

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4)
    >>> before, riemannian = model.weight.detach().clone(), sr.compression(model)
    >>> model = sr.convert_frames(model, "householder")
    >>> torch.allclose(model.weight, before, atol=1e-6)
    True
    >>> riemannian.stored, sr.compression(model).stored, sr.compression(model).dof
    (100, 64, 64)
    """
    check_choice("frames", frames, tuple(FRAMES))
    convert_layers(finite_layers(model), frames)
    return model


def convert_layers(layers: Mapping[str, SpectralLayer], frames: str) -> None:
    """Store the same weights of some layers in another kind of frame, in place and exactly.

    Parameters
    ----------
    layers : mapping
        By name; with all that share their frames.
    frames : str
        A key of `FRAMES`.
    """
    distinct = {id(layer.left): layer for layer in layers.values()}
    converted = {n: in_kind(layer, frames_kind(frames, layer.options.pivots)) for n, layer in distinct.items()}
    for layer in layers.values():
        layer.left, layer.right = converted[id(layer.left)]


@torch.no_grad()
def in_kind(layer: SpectralLayer, kind: type[Frames]) -> tuple[Frames, Frames]:
    """The frames of a layer in another kind, each frozen if it was before.

    Parameters
    ----------
    layer : SpectralLayer
        Not changed.
    kind : type
        Of frames.

    Returns
    -------
    left, right : Frames
        Of the same U and V, up to the gauge.
    """
    left, right = layer.build_frames(torch.float64)
    cores = LayerCores([c.clone() for c in left], layer.stored_spectrum(), [c.clone() for c in right])
    orders = cores.fix_gauge(layer.shape, kind.pivoted)
    sample, found = layer.sample(), []
    for old, own, order in zip((layer.left, layer.right), (cores.left, cores.right), orders, strict=True):
        new = kind(old.cores, own, order).to(sample.device, wide_dtype(sample.dtype)).train(old.training)
        for k in range(len(old)):
            before, after = old[k], new[k]
            if after is not None:
                after.requires_grad_(layer.trains if before is None else before.requires_grad)
        found.append(new)
    return found[0], found[1]
