"""Second moments of layers' inputs: what a low-rank weight has to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.checks import check_kind, is_iterable, shown
from sttp_riemann.layers import LAYERS, kind_of

LARGEST = 8192
"""Columns of a matrix up to which moments are kept: 512 MiB in float64."""


@torch.no_grad()
def input_moments(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Measure E[x x^T] of every layer's inputs, for `reparameterize`.

    Parameters
    ----------
    model : nn.Module
        A dense model; called as it is, so put it into evaluation mode first.
    batches : iterable of Tensor
        Inputs of the model. A convolution needs memory for its kernel's size times its input.

    Returns
    -------
    dict[str, Tensor]
        Layer name to (d_in, d_in), float64, on the CPU; d_in as in the layer's matrix, the mean over places and groups
        of a convolution. Layers that were not called have none, nor have embeddings, transposed convolutions and layers
        of more than 8,192 columns.

    Raises
    ------
    TypeError
        `model` is no module, or `batches` no iterable of tensors.
    ValueError
        There are no batches.

    Notes
    -----
    The weighted low-rank approximation of a layer, the least E[(W x - W_r x)^2], needs no more of the data.

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
            columns = LAYERS[kind_of(layer)].columns(layer, args[0] if args else kwargs["input"])
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
        if kind_of(layer) in LAYERS and _columns(layer) <= LARGEST
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
        raise ValueError("there are no batches to measure the inputs of layers on")
    return {name: total / counts[name] for name, total in sums.items()}


def _columns(layer: nn.Module) -> int:
    return math.prod(LAYERS[kind_of(layer)].matrix_shape(layer)[1])
