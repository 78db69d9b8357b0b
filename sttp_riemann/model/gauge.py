"""Change a model's parameters but not its weights: gauge, canonical form."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sttp_riemann.checks import check_number, check_optimizer, check_whole
from sttp_riemann.frames.momentum import momentum_of, turn_bases_, waiting
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.measures import finite_layers, spectral_layers
from sttp_riemann.model.pivots import follow, repivot
from sttp_riemann.trains.gauge import Chain, fix_gauge
from sttp_riemann.trains.start import LayerCores

MARGIN = 0.1
"""Chart margin, the smallest singular value of a leading block, below which other rows take the lead."""


def gauge_fix(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    average: nn.Module | None = None,
    margin: float = MARGIN,
) -> nn.Module:
    """Bring every inner core into St_U, in place; weights stay the same up to rounding.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. Householder frames are in St_U by construction: they only get new leading rows, where
        needed; with ``pivots=False`` they stay.
    optimizer : Optimizer or sequence of Optimizer, optional
        Its momentum moves along, so that training continues as if nothing had happened, and so do gradients that wait
        for a step. For Householder frames with new leading rows its state starts afresh, without such a gradient. One
        that a trainer has wrapped is taken out.
    average : nn.Module, optional
        An average of the model from `averaged`, or a copy that is averaged in another way: its frames rotate with the
        model's, so that averaging can continue.
    margin : float
        For Householder frames: below this `chart_margin`, new leading rows are chosen.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        The model or the average is not a module, or the optimizer not one of torch's.
    ValueError
        The model has no reparameterized layer or one that holds NaN, the optimizer treats entries of a frame one by
        one, the average is of another model or shares its parameters, or the margin is not between 0 and 1. Nothing is
        then changed.

    Notes
    -----
    Obukhov et al. 2021 describe St_U, the frames whose leading block is upper triangular. One sweep from each end of a
    chain reaches it. Steps of `PolarStiefel` commute with the gauge, so later weights stay the same, too, up to
    rounding.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, init="orthogonal").double()
    >>> optimizer = sr.RiemannianSGD(model.parameters(), lr=0.1)
    >>> model(torch.ones(16).double()).square().sum().backward()
    >>> optimizer.step()
    >>> before = model.weight.detach().clone()
    >>> model = sr.gauge_fix(model, optimizer)
    >>> torch.allclose(model.weight, before)
    True
    """
    optimizers = _optimizers(optimizer)
    margin = check_number("margin", margin, "a number from 0 to 1", least=0, most=1)
    layers = _distinct(finite_layers(model))
    twins = [()] * len(layers) if average is None else _twins(layers, average)
    companions = [*map(momentum_of, optimizers), waiting]
    chains, swept = [], []
    for layer, others in zip(layers, twins, strict=True):
        if not layer.left.canonical:
            sides = (
                [
                    [point, *(t for own in companions for t in own(point)), *(getattr(o, side)[k] for o in others)]
                    for k, point in enumerate(getattr(layer, side))
                ]
                for side in ("left", "right")
            )
            left, right = sides
            chains.append(Chain(layer.shape, left, right))
            swept.append(layer)
    fix_gauge(chains)
    for own in optimizers:
        _turn_bases(swept, chains, own)
    repivot(layers, margin, optimizers)
    for layer, others in zip(layers, twins, strict=True):
        for other in others:
            follow(layer, other)
    return model


@torch.no_grad()
def _turn_bases(layers: Sequence[SpectralLayer], chains: Sequence[Chain], optimizer: Optimizer) -> None:
    for layer, chain in zip(layers, chains, strict=True):
        for frames, rotations in zip((layer.left, layer.right), chain.rotations, strict=True):
            for k, (outer, inner) in enumerate(rotations):
                point = frames[k]
                if point is not None:
                    turn_bases_(optimizer, point, outer, inner)


def register_gauge_fix(
    model: nn.Module,
    optimizer: Optimizer,
    every: int = 100,
    average: nn.Module | None = None,
    margin: float = MARGIN,
) -> RemovableHandle:
    """Make an optimizer fix the gauge of a model at regular intervals.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.
    optimizer : Optimizer
        The optimizer of its parameters; its momentum moves along. Copies and pickles of it have no hooks, as always in
        torch.
    every : int
        Steps from one gauge fixing to the next, at least 1.
    average : nn.Module, optional
        As `gauge_fix` takes it.
    margin : float
        As `gauge_fix` takes it.

    Returns
    -------
    RemovableHandle
        Its ``remove()`` ends this.

    Raises
    ------
    TypeError
        As `gauge_fix` raises it; the optimizer is not optional.
    ValueError
        `every` is not a whole number above 0, the margin is not between 0 and 1, the model has no reparameterized
        layer, or the average is of another model.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4)
    >>> optimizer = sr.RiemannianAdam(model.parameters())
    >>> handle = sr.register_gauge_fix(model, optimizer, every=100)
    >>> handle.remove()
    """
    every = check_whole("every", every, "a whole number of steps above 0")
    margin = check_number("margin", margin, "a number from 0 to 1", least=0, most=1)
    optimizer = check_optimizer(optimizer)
    layers = _distinct(spectral_layers(model))
    if average is not None:
        _twins(layers, average)
    steps = itertools.count(1)

    def fix(*_: object) -> None:
        if next(steps) % every == 0:
            gauge_fix(model, optimizer, average, margin)

    return optimizer.register_step_post_hook(fix)


def _optimizers(given: Any) -> list[Optimizer]:
    several = given if isinstance(given, list | tuple) else () if given is None else (given,)
    return [check_optimizer(own, "a torch.optim.Optimizer, several of them, or None") for own in several]


def _distinct(layers: Mapping[str, SpectralLayer]) -> list[SpectralLayer]:
    """Layers, each tied weight once."""
    return list({id(layer.left): layer for layer in layers.values()}.values())


def _twins(layers: list[SpectralLayer], average: nn.Module) -> list[tuple[SpectralLayer, ...]]:
    others = _distinct(spectral_layers(average, "average"))
    if [(la.shape, la.frames) for la in others] != [(la.shape, la.frames) for la in layers]:
        raise ValueError("the average is of another model: its layers differ")
    own = {id(p) for layer in layers for p in layer.factor_parameters()}
    if any(id(p) in own for other in others for p in other.factor_parameters()):
        raise ValueError("the average shares parameters with the model, which would be turned twice; give a copy")
    return [(other,) for other in others]


def canonicalize(model: nn.Module) -> nn.Module:
    """Choose one representative of all parameters that give the same weights, in place.

    The gauge is fixed, singular values are non-negative and descending, a learned S has the maximum 1, and in each
    column of U's last core the largest entry is positive. Networks of equal weights become equal arrays, up to
    rounding, where singular values are distinct.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. Recreate the optimizer that trains it.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        The model is not a module.
    ValueError
        The model has no reparameterized layer, or one that holds NaN.

    Notes
    -----
    Beyond the gauge of Obukhov et al. 2021, a diagonal spectrum leaves the order of the singular values and the sign of
    each pair of singular vectors free; both are fixed as in a singular value decomposition.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, init="orthogonal", spectrum="free").double()
    >>> with torch.no_grad():
    ...     _ = model.spectrum.copy_(torch.tensor([1.0, -3.0, 2.0, 0.5]))
    >>> before = model.weight.detach().clone()
    >>> model = sr.canonicalize(model)
    >>> torch.allclose(model.weight, before)
    True
    >>> model.spectrum.tolist()
    [3.0, 2.0, 1.0, 0.5]
    """
    layers = _distinct(finite_layers(model))
    for layer, cores in [(layer, _canonical(layer)) for layer in layers]:
        layer.assign_(cores)
    return model


@torch.no_grad()
def _canonical(layer: SpectralLayer) -> LayerCores:
    left, right = layer.build_frames(torch.float64)
    cores = LayerCores([c.clone() for c in left], layer.stored_spectrum(), [c.clone() for c in right])
    cores.fix_gauge(layer.shape, layer.left.pivoted)
    if layer.spectrum is not None:
        largest = cores.spectrum.abs().max()
        if layer.spectrum_kind == "learned" and largest > 0:
            cores.spectrum /= largest
        _order_columns(cores)
    return cores


def _order_columns(cores: LayerCores) -> None:
    """Make values descending and non-negative, and the largest entry of each column of U's last core positive."""
    values = cores.spectrum
    order = values.abs().argsort(descending=True, stable=True)
    flips = torch.where(values < 0, -1.0, 1.0).to(values)
    left, right = cores.left[-1][:, order], (cores.right[-1] * flips)[:, order]
    largest = left.gather(0, left.abs().argmax(0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0).to(values)
    cores.left[-1], cores.right[-1], cores.spectrum = left * signs, right * signs, values[order].abs()
