"""Second moments of layers' inputs, which weight the low-rank approximation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.checks import check_kind, is_iterable, shown
from sttp_riemann.layers import LAYERS, kind_of, row_for

LARGEST = 8192
"""Largest number of columns for which a moment is measured: 512 MiB in float64."""


@torch.no_grad()
def input_moments(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Measure E[x x^T] of every layer's inputs, for `reparameterize`.

    Parameters
    ----------
    model : nn.Module
        A dense model; called in its present mode, so switch it to evaluation mode first.
    batches : iterable of Tensor
        Inputs of the model. A convolution needs memory for its kernel size times its input.

    Returns
    -------
    dict[str, Tensor]
        Layer name to (d_in, d_in), float64, on the CPU; d_in as in the layer's matrix, the mean over places and groups
        of a convolution. Left out are layers that were not called, embeddings, bilinear layers, transposed
        convolutions and layers with more than 8,192 columns.

    Raises
    ------
    TypeError
        `model` is not a module, or `batches` is not an iterable of tensors.
    ValueError
        There are no batches.

    Notes
    -----
    A second moment is all that the weighted low-rank approximation, the minimizer of the mean squared output error,
    needs to know about the data.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32))
    >>> inputs = torch.randn(1000, 4) @ torch.randn(4, 64)  # they span four dimensions
    >>> moments = sr.input_moments(model, inputs.split(100))
    >>> before = model(inputs)
    >>> model = sr.reparameterize(model, rank=4, method="svdp", init="dense", moments=moments)
    >>> bool((model(inputs) - before).norm() < 0.01 * before.norm())
    True
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    if isinstance(batches, Mapping) or not is_iterable(batches):
        raise TypeError(f"batches must be an iterable of tensors, got {shown(batches)}")
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            columns = LAYERS[kind_of(layer)].columns(layer, args[0] if args else next(iter(kwargs.values())))
            if columns is None:
                return
            columns = columns.float() if columns.dtype.itemsize < torch.float32.itemsize else columns
            moment = (columns.mT @ columns).cpu().double()
            sums[name] = sums[name] + moment if name in sums else moment
            counts[name] = counts.get(name, 0) + len(columns)

        return add

    handles = [
        layer.register_forward_pre_hook(watch(name), with_kwargs=True)
        for name, layer in model.named_modules()
        if row_for(kind_of(layer)) is not None and _columns(layer) <= LARGEST
    ]
    called = False
    try:
        for batch in batches:
            model(check_kind("each of the batches", batch, Tensor, "a tensor"))
            called = True
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise ValueError("batches is empty, so no inputs can be measured")
    return {name: total / counts[name] for name, total in sums.items()}


def _columns(layer: nn.Module) -> int:
    return math.prod(LAYERS[kind_of(layer)].matrix_shape(layer)[1])
