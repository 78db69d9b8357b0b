"""Rows that lead Householder frames: chosen anew in training, followed by averages, and how far their charts reach."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from sttp_riemann.batch.batch import Plan
from sttp_riemann.frames import Frames, PivotedFrames
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.frames.momentum import restart
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.trains.gauge import Chain, fix_gauge
from sttp_riemann.trains.pivots import leading_block, margins
from sttp_riemann.trains.start import LayerCores


@torch.no_grad()
def repivot(layers: Sequence[SpectralLayer], margin: float, optimizers: Sequence[Optimizer] = ()) -> None:
    """Choose leading rows anew where the chart margin is low, in place; weights stay the same up to rounding.

    Parameters
    ----------
    layers : sequence of SpectralLayer
        Those that are not pivoted stay as they are.
    margin : float
        Where the smallest singular value of a leading block is below this, other rows lead from now on, if theirs is
        clearly larger.
    optimizers : sequence of Optimizer
        What they keep for the frames that have changed begins anew; the gradients of these are dropped.
    """
    layers = [layer for layer in layers if layer.left.pivoted]
    chains = [
        Chain(layer.shape, [[c] for c in left], [[c] for c in right], _orders(layer), margin)
        for layer, (left, right) in zip(layers, _frames(layers), strict=True)
    ]
    fix_gauge(chains)
    for layer, chain in zip(layers, chains, strict=True):
        assert chain.orders is not None
        sides = zip((layer.left, layer.right), (chain.left, chain.right), chain.orders, chain.turned, strict=True)
        for frames, cores, orders, turned in sides:
            for k in [k for k, flag in enumerate(turned) if flag]:
                frames.lead(k, orders[k])
                frames.assign_(k, _own(cores[k][0], frames, k))
                point = frames[k]
                if point is not None:
                    point.grad = None
                    for optimizer in optimizers:
                        restart(optimizer, point)


@torch.no_grad()
def follow(layer: SpectralLayer, average: SpectralLayer) -> None:
    """Bring an average of a layer to the rows and signs that the layer has now, in place; its weight stays the same.

    Parameters
    ----------
    layer : SpectralLayer
        What is averaged.
    average : SpectralLayer
        Of equal shape, in other charts than the layer where that has chosen rows anew since.
    """
    if not layer.left.pivoted or not isinstance(average.left, PivotedFrames) or _same_chart(layer, average):
        return
    left, right = average.build_frames(torch.float64)
    sides = [[c.clone()] for c in left], [[c.clone()] for c in right]
    orders = _orders(layer)
    fix_gauge([Chain(layer.shape, *sides, orders)])
    for own, frames, cores, order in zip(
        (layer.left, layer.right), (average.left, average.right), sides, orders, strict=True
    ):
        assert isinstance(frames, PivotedFrames)
        for k, (core,) in enumerate(cores):
            frames.lead(k, order[k])
            sign = own.tensors(k)[0]
            frames.assign_(k, core.to(sign), sign)


def chart_margin_of(layer: SpectralLayer) -> float:
    """Smallest singular value of the leading blocks of a layer's frames in St_U, as Householder frames hold them.

    Parameters
    ----------
    layer : SpectralLayer
        Frames that are no Householder frames are looked at as they would be converted.

    Returns
    -------
    float
        From 0 to 1; 1 where there is no frame in St_U.
    """
    ((left, right),) = _frames([layer])
    if layer.left.canonical:
        orders = _orders(layer)
    else:
        orders = LayerCores(left, layer.stored_spectrum(), right).fix_gauge(layer.shape, layer.options.pivots)
    shapes = (*layer.shape.left.cores, *layer.shape.right.cores)
    triples = zip(shapes, (*left, *right), (*orders[0], *orders[1]), strict=True)
    found = [margins(leading_block(c[None], o[None])) for core, c, o in triples if core.reduced]
    return float(torch.cat(found).min()) if found else 1.0


def _same_chart(layer: SpectralLayer, average: SpectralLayer) -> bool:
    pairs = ((getattr(layer, side), getattr(average, side)) for side in ("left", "right"))
    return all(
        torch.equal(ours, theirs) for a, b in pairs for ours, theirs in zip(a.buffers(), b.buffers(), strict=True)
    )


def _orders(layer: SpectralLayer) -> tuple[list[Tensor], list[Tensor]]:
    left, right = ([side.order(k).clone() for k in range(len(side))] for side in (layer.left, layer.right))
    return left, right


@torch.no_grad()
def _frames(layers: Sequence[SpectralLayer]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Copies of the frames left and right of each layer, in float64; those of equal cores computed in one batch."""
    groups: dict[object, list[int]] = {}
    for i, layer in enumerate(layers):
        groups.setdefault((type(layer.left), layer.sample().device), []).append(i)
    found: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
    for members in groups.values():
        own = [layers[i] for i in members]
        plan = Plan([layer.member()._replace(dtype=torch.float64, weight_dtype=torch.float64) for layer in own])
        for i, layer, built in zip(members, own, plan(own, "cores"), strict=True):
            cores, count = [core.clone() for core in built], len(layer.left)
            found[i] = cores[:count], cores[count + 1 :]
    return [found[i] for i in range(len(layers))]


def _own(core: Tensor, frames: Frames, k: int) -> Tensor:
    return core.to(wide_dtype(frames.tensors(k)[0].dtype))
