"""The weights of a model, dense or spectral: which layers have one, its matrix, and measures of it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sttp_riemann.checks import is_iterable, shown
from sttp_riemann.frames.frame import orthogonality_error as orthogonality
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers import SpectralLayer, row_for

EXACT = 1e-5
"""Orthogonality error up to which s is taken for the singular values of W; their error is of the same order."""


@dataclass(frozen=True)
class Numbers:
    """Size of a weight.

    Attributes
    ----------
    dof, stored, dense : int
        Degrees of freedom, stored trainable numbers, elements of W; all equal for a dense weight.
    """

    dof: int
    stored: int
    dense: int


def weighted_layers(model: nn.Module, exclude: str | Sequence[str] = ()) -> dict[str, Any]:
    """Layers whose weights are counted and measured: every kind in `LAYERS`, dense or spectral.

    This includes weights under a torch parametrization, such as spectral normalization, and excludes layers of the
    user's own classes, which `reparameterize` does not handle.

    Parameters
    ----------
    model : nn.Module
        Any model.
    exclude : str or sequence of str
        Layers to leave out: names, names of modules that contain them, or patterns with ``*``, as in `reparameterize`.

    Returns
    -------
    dict[str, nn.Module]
        By name, in the order of the model.

    Raises
    ------
    ValueError
        A name in `exclude` matches no layer.
    """
    found = {name: layer for name, layer in model.named_modules() if layer_kind(layer) is not None}
    left = {name for entry in names_in(exclude) for name in matching("exclude", entry, list(found))}
    return {name: layer for name, layer in found.items() if name not in left}


def distinct(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Layers by name; of those that share a weight, only the first.

    Parameters
    ----------
    layers : mapping
        Result of `weighted_layers`.

    Returns
    -------
    dict[str, nn.Module]
    """
    first: dict[int, str] = {}
    for name, layer in layers.items():
        first.setdefault(id(_source(layer)), name)
    return {name: layers[name] for name in first.values()}


def layer_kind(layer: nn.Module) -> type[SpectralLayer] | None:
    """The row of `LAYERS` that defines the matrix of a layer's weight; None for a layer without a row.

    Parameters
    ----------
    layer : nn.Module
        Any.

    Returns
    -------
    type or None
    """
    if isinstance(layer, SpectralLayer):
        return type(layer)
    return row_for(parametrize.type_before_parametrizations(layer))


@torch.no_grad()
def weight_matrix(layer: Any) -> Tensor:
    """W as the matrix (d_out, d_in), detached.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.

    Returns
    -------
    Tensor
        In the dtype of the weight.
    """
    return matrix_of(layer, layer.built_weight() if isinstance(layer, SpectralLayer) else layer.weight)


def matrix_of(layer: Any, weight: Tensor) -> Tensor:
    """The matrix (d_out, d_in) of a tensor in the shape of a layer's weight, such as a gradient.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.
    weight : Tensor
        In the shape of its weight.

    Returns
    -------
    Tensor
        Detached.
    """
    return _row(layer).to_matrix(weight.detach())


def matrix_shape(layer: Any) -> tuple[int, int]:
    """Rows and columns of a layer's matrix.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.

    Returns
    -------
    tuple of int
        (d_out, d_in).
    """
    if isinstance(layer, SpectralLayer):
        return layer.shape.d_out, layer.shape.d_in
    rows, columns = _row(layer).matrix_shape(layer)
    return rows, math.prod(columns)


@torch.no_grad()
def layer_values(layer: Any) -> Tensor:
    """Singular values of a layer's W.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.

    Returns
    -------
    Tensor
        Non-negative, descending, in float32 or above: (rank,) for a spectral layer, whether or not its frames are
        orthonormal; (min(d_out, d_in),) for a dense one.
    """
    if not isinstance(layer, SpectralLayer):
        return matrix_values(weight_matrix(layer))
    _, values, _ = layer.build_cores()
    if frame_error(layer) > EXACT:
        u, v = layer.build_factors(torch.float64)
        values = torch.linalg.svdvals(torch.linalg.qr(u).R @ torch.linalg.qr(v).R.mT).to(values.dtype)
    return values.abs().sort(descending=True).values


def matrix_values(matrix: Tensor) -> Tensor:
    """Singular values of a matrix, in float32 or above.

    Parameters
    ----------
    matrix : Tensor
        (d_out, d_in), in any floating-point dtype.

    Returns
    -------
    Tensor
        (min(d_out, d_in),), descending.
    """
    return torch.linalg.svdvals(matrix.to(wide_dtype(matrix.dtype)))


def stable_rank(values: Tensor) -> float:
    """Squared Frobenius norm over squared spectral norm; 0 for a zero matrix.

    Parameters
    ----------
    values : Tensor
        All singular values, descending.

    Returns
    -------
    float
        Between 1 and their number.
    """
    wide = values.double()
    return float((wide / wide[0]).square().sum()) if float(wide[0]) else 0.0


@torch.no_grad()
def frame_error(layer: SpectralLayer) -> float:
    """Largest entry of abs(X^T X - I) over the cores of one layer, computed in float64.

    Parameters
    ----------
    layer : SpectralLayer
        The layer.

    Returns
    -------
    float
    """
    left, right = layer.build_frames()
    return max(orthogonality(core.double()) for core in (*left, *right))


def layer_numbers(layer: Any) -> Numbers:
    """Size of a layer's weight.

    Parameters
    ----------
    layer : nn.Module
        One of `weighted_layers`.

    Returns
    -------
    Numbers
    """
    rows, columns = matrix_shape(layer)
    dense = rows * columns
    return Numbers(layer.dof, layer.stored, dense) if isinstance(layer, SpectralLayer) else Numbers(dense, dense, dense)


def matching(option: str, entry: str, names: list[str]) -> list[str]:
    """Layers that an entry of an option refers to: by name, name of a containing module, or pattern.

    Parameters
    ----------
    option : str
        Name of the option, for the message.
    entry : str
        One of its entries.
    names : list of str
        Names of all layers.

    Returns
    -------
    list of str
        At least one of them.

    Raises
    ------
    ValueError
        It matches none.
    """
    found = [n for n in names if n == entry or n.startswith(f"{entry}.") or fnmatchcase(n, entry)]
    if not found:
        close = difflib.get_close_matches(entry, names, n=3) or names[:6]
        raise ValueError(
            f"{option} names {shown(entry)}, which matches no layer that can be changed; such as {shown(close)}"
        )
    return found


def names_in(exclude: Any, option: str = "exclude") -> tuple[str, ...]:
    """Entries of `exclude`, one name or several.

    Parameters
    ----------
    exclude : str or sequence of str
        As given.
    option : str
        Name of the option, for the message.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        It is something else.
    """
    if isinstance(exclude, str):
        return (exclude,)
    if not is_iterable(exclude):
        raise ValueError(f"{option} must be a name or a sequence of names, got {shown(exclude)}")
    names: tuple[Any, ...] = tuple(exclude)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{option} must be a name or a sequence of names, and one of them is {shown(name)}")
    return names


def _row(layer: Any) -> type[SpectralLayer]:
    kind = layer_kind(layer)
    if kind is None:
        raise TypeError(f"a {type(layer).__name__} has no weight that can be measured: see sttp_riemann.layers.LAYERS")
    return kind


def _source(layer: Any) -> object:
    """Key that is equal for layers that share a weight."""
    if isinstance(layer, SpectralLayer):
        return layer.left
    if parametrize.is_parametrized(layer, "weight"):
        own = layer.parametrizations["weight"]
        # Weight normalization computes it from two tensors
        return own.original if own.is_tensor else own.original0
    return layer.weight
