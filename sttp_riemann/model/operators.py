"""Norms of a model's layers as operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.checks import check_kind
from sttp_riemann.layers import Adapted, SpectralLayer
from sttp_riemann.model.weights import distinct, layer_kind, matrix_of, weighted_layers
from sttp_riemann.trains.operators import REPORT, Effort, operator_bound
from sttp_riemann.trains.places import Places

WORK = 2e11
"""Multiplications that the bound of a layer may take, about: large layers get a coarser one."""
EFFORTS = (REPORT, Effort(8, 7), Effort(4, 6), Effort(2, 5))
MATRIX_ROUNDING = 1e-5
"""Margin of a singular value, computed in float64, for layers that apply their matrix in float32."""


def operator_norms(model: nn.Module) -> dict[str, float]:
    """Certified upper bounds of the norms of all linear maps of a model, as operators on whole maps of any size.

    Parameters
    ----------
    model : nn.Module
        Any model, reparameterized or not.

    Returns
    -------
    dict[str, float]
        By layer name, for linear layers, convolutions and embeddings; of layers that share a weight, only the first.

    Raises
    ------
    TypeError
        The model is not a module.
    ValueError
        It has no such layer, or a weight that is not finite.

    Notes
    -----
    That of a linear layer is its largest singular value. Of a convolution it is bounded by Gram iteration at sampled
    frequencies (Delattre et al. 2023), as `sttp_riemann.trains.operators.sample` describes and proves; with 3 x 3 taps
    it is 1 to 2 % above the norm on large maps with zeros around them. Padding by reflected or repeated values adds the
    factor that these may add. An embedding counts as the map from one-hot vectors.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, bias=False))
    >>> _ = torch.nn.init.ones_(model[0].weight)
    >>> round(sr.operator_norms(model)["0"], 1)  # of 9: all taps meet a constant map
    9.1
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    layers = distinct(weighted_layers(model))
    if not layers:
        raise ValueError("the model has no linear layer, convolution or embedding whose norm could be bounded")
    return {name: layer_norm(layer, f"layer {name!r}") for name, layer in layers.items()}


@torch.no_grad()
def layer_norm(layer: Any, name: str = "the layer", size: Sequence[int] | None = None) -> float:
    """Certified upper bound of the norm of a layer as an operator, without its bias.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.
    name : str
        For the message.
    size : sequence of int, optional
        Of the maps that it reads; of any size without it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        The weight is not finite.
    """
    places = places_of(layer)
    weight = _whole(layer, places) if _is_whole(layer, places) else _reduced(layer, places)
    if not bool(weight.isfinite().all()):
        raise ValueError(f"the weight of {name} holds NaN or infinite values and has no norm; load a state from before")
    if places is None:
        rows, columns = weight.shape
        gram = weight @ weight.mT if rows <= columns else weight.mT @ weight
        return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) * (1 + MATRIX_ROUNDING)
    return float(operator_bound(weight, places, size, _effort(weight, places, size)))


def places_of(layer: Any) -> Places | None:
    """Where a layer's kernel meets its input; None where its norm is that of its matrix.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.

    Returns
    -------
    Places or None
    """
    kind = layer_kind(layer)
    assert kind is not None
    return kind.places(layer)


def _is_whole(layer: Any, places: Places | None) -> bool:
    """Whether no part of the weight can be left out."""
    grouped = places is not None and places.groups > 1 and not places.transposed
    return grouped or isinstance(layer, Adapted) or not isinstance(layer, SpectralLayer)


def _whole(layer: Any, places: Places | None) -> Tensor:
    """The weight in float64, of a spectral layer from its factors as they are applied; as a matrix if that is all."""
    if not isinstance(layer, SpectralLayer):
        weight = layer.weight.detach().double()
    elif isinstance(layer, Adapted) and layer.kept is not None:
        weight = layer.base.detach().double()
    else:
        left, right = _applied(layer)
        weight = layer.completed(layer.from_matrix(left @ right.mT))
    return matrix_of(layer, weight) if places is None else weight


def _reduced(layer: SpectralLayer, places: Places | None) -> Tensor:
    """A smaller weight in float64 of the same norm.

    U may be off its manifold: of its product with s, an orthonormal factor is left out.
    """
    left, right = _applied(layer)
    small = torch.linalg.qr(left).R @ right.mT
    if places is None:
        return small
    kernel = small.view(len(small), -1, *places.kernel)
    return kernel.transpose(0, 1) if places.transposed else kernel


def _applied(layer: SpectralLayer) -> list[Tensor]:
    return [factor.to(layer.weight_dtype).double() for factor in layer.build_factors()]


def _effort(kernel: Tensor, places: Places, size: Sequence[int] | None) -> Effort:
    folds = [meeting.fold for meeting in places.meetings(size)]
    taps = [-(-side // fold) for side, fold in zip(places.kernel, folds, strict=True)]
    least, most = sorted((len(kernel) // places.groups, kernel.shape[1] * math.prod(folds)))
    for effort in EFFORTS:
        samples = places.groups * math.prod(max(1, effort.per_degree * (side - 1)) for side in taps) / 2
        if samples * least**2 * 4 * (most + effort.squarings * least) <= WORK:
            return effort
    return EFFORTS[-1]
