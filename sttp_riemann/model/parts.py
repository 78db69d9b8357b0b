"""Frames and spectrum for a layer that is going to be a spectral one, its bound, and what it loses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sttp_riemann.batch.operators import factor, initial_norm
from sttp_riemann.frames import Frames
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers import LAYERS, kind_of
from sttp_riemann.layers.options import Options
from sttp_riemann.trains.places import Places
from sttp_riemann.trains.shape import Core, LayerShape
from sttp_riemann.trains.spectrum import spectrum_values
from sttp_riemann.trains.start import LayerCores


class Parts(nn.Module):
    """Frames and spectrum on a layer's device, in float32 or above, frozen if its weight was; trained in an adapter.

    Parameters
    ----------
    layer : nn.Module
        An ordinary layer; not changed.
    shape : LayerShape
        What it is going to have.
    options : Options
        What it is going to have.
    kind : type
        Of its frames.
    cores : LayerCores, optional
        In float64; their gauge is fixed in place. Without them there are no numbers: all is on the meta device.

    Attributes
    ----------
    left, right : Frames
        Of U and of V.
    spectrum : Parameter or None
        (rank,); None if it is not trained.
    start_left, start_right : Parameter or None
        Room for the factors of what an adapter takes off its weight at the start; None for all others.
    """

    left: Frames
    right: Frames
    spectrum: nn.Parameter | None
    start_left: nn.Parameter | None
    start_right: nn.Parameter | None

    def __init__(
        self, layer: nn.Module, shape: LayerShape, options: Options, kind: type[Frames], cores: LayerCores | None = None
    ) -> None:
        super().__init__()
        weight = layer._parameters["weight"]
        assert weight is not None
        if cores is None:
            device = torch.device("meta")
            cores, orders = _blank(shape), (_rows(shape.left.cores), _rows(shape.right.cores))
        else:
            device = weight.device
            orders = cores.fix_gauge(shape, kind.pivoted)
        trained = options.spectrum != "identity"
        self.register_parameter("spectrum", nn.Parameter(cores.spectrum.clone()) if trained else None)
        self.left = kind(shape.left.cores, cores.left, orders[0])
        self.right = kind(shape.right.cores, cores.right, orders[1])
        wide, adapter = wide_dtype(weight.dtype), options.adapter
        self.to(device=device, dtype=wide).requires_grad_(weight.requires_grad or adapter is not None)
        for name, rows in (("start_left", shape.d_out), ("start_right", shape.d_in)):
            room = torch.empty(rows, shape.rank, device=device, dtype=wide)
            taken = adapter is not None and adapter.residual
            self.register_parameter(name, nn.Parameter(room, requires_grad=False) if taken else None)
        self.train(layer.training)


def initial_bound(shape: LayerShape, cores: LayerCores, places: Places | None, bound: float | str) -> float:
    """Bound of a layer; "initial" is that of its cores.

    Parameters
    ----------
    shape, cores
        Of the layer.
    places : Places or None
        Where the norm of an operator is meant, and not that of the matrix.
    bound : float or "initial"
        As given.

    Returns
    -------
    float
    """
    if bound != "initial":
        return float(bound)
    return float(cores.spectrum.abs().max()) if places is None else initial_norm(shape, cores, places)


def weighed(matrix: Tensor, root: Tensor | None) -> Tensor:
    """W L, whose norm is that of the outputs for inputs with E[x x^T] = L L^T; without a moment, W."""
    return matrix if root is None else matrix.cpu().double() @ root


@torch.no_grad()
def relative_error(
    shape: LayerShape, cores: LayerCores, options: Options, layer: nn.Module, matrix: Tensor, root: Tensor | None
) -> float:
    """Relative Frobenius error of W, or of the outputs where the inputs' moment is known.

    Parameters
    ----------
    shape, cores, options
        Of the layer as it is going to be.
    layer : nn.Module
        The ordinary layer.
    matrix : Tensor
        Of its weight.
    root : Tensor or None
        L where the second moment of the inputs is L L^T.

    Returns
    -------
    float
    """
    left, right = cores.contracted(shape)
    values = torch.full_like(cores.spectrum, options.bound)
    if options.spectrum != "identity":
        values = spectrum_values(options.spectrum, cores.spectrum.unsqueeze(0), options.bound)[0]
    places = LAYERS[kind_of(layer)].places(layer) if options.bound_of == "operator" else None
    if places is not None:
        values = values * factor(left * values, right, places, options.bound)
    wanted = matrix.double().cpu()
    difference = weighed((left * values) @ right.mT - wanted, root)
    return float(difference.norm() / weighed(wanted, root).norm().clamp_min(torch.finfo(torch.float64).tiny))


def frozen_base(weight: nn.Parameter) -> nn.Parameter:
    """A weight that an adapter keeps, frozen: the same parameter, unless it is one matrix of several in memory.

    Parameters
    ----------
    weight : nn.Parameter
        Of an ordinary layer.

    Returns
    -------
    nn.Parameter
    """
    if weight.untyped_storage().nbytes() > weight.numel() * weight.element_size():
        return nn.Parameter(weight.detach().clone(), requires_grad=False)
    weight.requires_grad_(False)
    return weight


def _blank(shape: LayerShape) -> LayerCores:
    left, right = (
        [torch.empty(core.rows, core.inner, dtype=torch.float64, device="meta") for core in train.cores]
        for train in (shape.left, shape.right)
    )
    return LayerCores(left, torch.empty(shape.rank, dtype=torch.float64, device="meta"), right)


def _rows(cores: tuple[Core, ...]) -> list[Tensor]:
    return [torch.empty(core.rows, dtype=torch.int64, device="meta") for core in cores]
