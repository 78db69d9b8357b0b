"""Inspect a network's layers: shapes, ranks, sizes, spectra and Lipschitz bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.compression import other_numbers, percent_left
from sttp_riemann.model.lipschitz import lipschitz_bound
from sttp_riemann.model.operators import layer_norm
from sttp_riemann.model.weights import (
    distinct,
    frame_error,
    layer_numbers,
    layer_values,
    matrix_shape,
    stable_rank,
    weighted_layers,
)

NOTE = (
    "sigma is the largest singular value of a layer's weight as a matrix: the Lipschitz bound of a linear layer. Of a "
    "convolution it bounds the map from one patch to one output position; 'operator' bounds the whole layer on maps of "
    "any size. The products are over all layers in a row, and so bound a network of these and 1-Lipschitz functions; "
    "batch norm and residual sums are not counted. The certified bound of the network counts everything in it."
)


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes
    ----------
    name : str
        The layer.
    shape : tuple of int
        Its weight as a matrix, (d_out, d_in).
    ranks : tuple of int or None
        TT-ranks, the outer ones included; None for a dense layer.
    rank, dof : int
        Number of singular values and degrees of freedom.
    largest, median, smallest : float
        Of the singular values.
    stable_rank : float
        Sum of the squared singular values over the largest one's square.
    orthogonality_error : float or None
        Largest entry of abs(X^T X - I) over the cores; None for a dense layer.
    operator_bound : float
        Upper bound of the layer's Lipschitz constant, as `sttp_riemann.operator_norms` gives it.
    """

    name: str
    shape: tuple[int, int]
    ranks: tuple[int, ...] | None
    rank: int
    dof: int
    largest: float
    median: float
    smallest: float
    stable_rank: float
    orthogonality_error: float | None
    operator_bound: float


@dataclass(frozen=True)
class NetworkReport:
    """All layers of a network.

    Attributes
    ----------
    layers : tuple of LayerReport
        In the order of the model.
    other : int
        Every other parameter and floating-point buffer.
    certified : float or None
        Upper bound of the network's Lipschitz constant, as `sttp_riemann.lipschitz_bound` gives it; None if it has none
        or no example was given.
    uncertified : str
        Why it has none.
    """

    layers: tuple[LayerReport, ...]
    other: int
    certified: float | None = None
    uncertified: str = ""

    @property
    def dof(self) -> int:
        """Degrees of freedom of all layers' weights."""
        return sum(layer.dof for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Z in percent; 100 for a dense network."""
        dense = sum(math.prod(layer.shape) for layer in self.layers)
        return percent_left(self.dof, dense, self.other)

    @property
    def lipschitz(self) -> float:
        """Product of the largest singular values."""
        return math.prod(layer.largest for layer in self.layers)

    @property
    def operator_lipschitz(self) -> float:
        """Product of the bounds of the layers."""
        return math.prod(layer.operator_bound for layer in self.layers)

    def __str__(self) -> str:
        rows = ([cell(layer) for cell in COLUMNS.values()] for layer in self.layers)
        numbers = f"{self.dof:,} degrees of freedom and {self.other:,} other numbers, Z = {self.ratio:.2f} %"
        operators = _number(self.operator_lipschitz)
        bounds = f"product over the layers: {self.lipschitz:.4g} of sigma, {operators} of the operator bounds"
        whole = [] if self.certified is None else [f"certified Lipschitz bound of the network: {self.certified:.4g}"]
        return "\n".join(
            [_aligned([[*COLUMNS], *rows]), "", numbers, bounds, *whole, *filter(None, [self.uncertified])]
        )


def inspect(model: nn.Module, example: Tensor | None = None) -> NetworkReport:
    """Report on every Linear, convolution and Embedding of a model, reparameterized or not; tied ones count once.

    Parameters
    ----------
    model : nn.Module
        Not changed; in evaluation, if there is an example.
    example : Tensor, optional
        An input of the size for which the network's certified Lipschitz bound is wanted.

    Returns
    -------
    NetworkReport
        One row per layer; prints as a table.

    Raises
    ------
    ValueError
        The model has no such layer, or a weight that is not finite.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> from sttp_riemann.lab.inspection import inspect
    >>> report = inspect(sr.reparameterize(torch.nn.Conv2d(16, 32, 3), rank=4, bound_of="operator"))
    >>> layer = report.layers[0]
    >>> layer.shape, layer.rank, 0.9 < layer.operator_bound <= 1, layer.largest < layer.operator_bound
    ((32, 144), 4, True, True)
    """
    layers = distinct(weighted_layers(model))
    if not layers:
        raise ValueError("the model has no linear layer, convolution or embedding to inspect")
    rows = tuple(_report(name, layer) for name, layer in layers.items())
    dense = sum(math.prod(row.shape) for row in rows if row.ranks is None)
    certified, uncertified = None, ""
    if example is not None:
        try:
            certified = lipschitz_bound(model, example)
        except ValueError as error:
            uncertified = str(error)
    return NetworkReport(rows, other_numbers(model) - dense, certified, uncertified)


def _report(name: str, layer: Any) -> LayerReport:
    spectral, values = isinstance(layer, SpectralLayer), layer_values(layer)
    largest = float(values[0])
    return LayerReport(
        name=name,
        shape=matrix_shape(layer),
        ranks=layer.shape.ranks if spectral else None,
        rank=len(values),
        dof=layer_numbers(layer).dof,
        largest=largest,
        median=float(values.median()),
        smallest=float(values[-1]),
        stable_rank=stable_rank(values),
        orthogonality_error=frame_error(layer) if spectral else None,
        operator_bound=layer_norm(layer, f"layer {name!r}"),
    )


def survey(networks: Mapping[str, NetworkReport]) -> str:
    """Table of several networks, one row each.

    Parameters
    ----------
    networks : mapping
        Reports by the name of the run and network.

    Returns
    -------
    str
        Sizes, extremes over the layers of singular values, stable ranks and errors, and the products that bound.
    """
    rows = [
        ["network", *TOTALS],
        *([name, *(cell(report) for cell in TOTALS.values())] for name, report in networks.items()),
    ]
    return _aligned(rows)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _error(layers: Sequence[LayerReport]) -> str:
    errors = [layer.orthogonality_error for layer in layers if layer.orthogonality_error is not None]
    return f"{max(errors):.1e}" if errors else ""


COLUMNS: dict[str, Callable[[LayerReport], str]] = {
    "layer": lambda layer: layer.name,
    "W": lambda layer: f"{layer.shape[0]} x {layer.shape[1]}",
    "TT-ranks": lambda layer: "dense" if layer.ranks is None else "-".join(map(str, layer.ranks)),
    "dof": lambda layer: f"{layer.dof:,}",
    "sigma": lambda layer: _number(layer.largest),
    "median": lambda layer: _number(layer.median),
    "smallest": lambda layer: _number(layer.smallest),
    "stable rank": lambda layer: _number(layer.stable_rank),
    "orthogonality": lambda layer: _error([layer]),
    "operator": lambda layer: _number(layer.operator_bound),
}
TOTALS: dict[str, Callable[[NetworkReport], str]] = {
    "layers": lambda report: str(len(report.layers)),
    "dof": lambda report: f"{report.dof:,}",
    "Z": lambda report: f"{report.ratio:.2f} %",
    "largest sigma": lambda report: _number(max(layer.largest for layer in report.layers)),
    "smallest sigma": lambda report: _number(min(layer.smallest for layer in report.layers)),
    "least stable rank": lambda report: _number(min(layer.stable_rank for layer in report.layers)),
    "orthogonality": lambda report: _error(report.layers),
    "product of sigma": lambda report: _number(report.lipschitz),
    "certified": lambda report: _number(report.certified),
}


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)
