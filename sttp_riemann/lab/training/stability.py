"""State of a discriminator's layers during training, however their weights are constrained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import sttp_riemann as sr
from sttp_riemann.lab.networks.baselines import remove_baseline
from sttp_riemann.model.weights import layer_values, matrix_of, matrix_values, stable_rank, weighted_layers
from sttp_riemann.trains.operators import circular_singular_values

TOP_VALUES = 32
"""Recorded singular values per layer, as many as in the paper's Figure 5."""


def plain_copy(model: nn.Module, low_rank: bool) -> nn.Module:
    """Copy a network with ordinary weights, so that all methods are measured in the same way.

    Parameters
    ----------
    model : nn.Module
        Stays as it is.
    low_rank : bool
        Whether it is reparameterized.

    Returns
    -------
    nn.Module
        In evaluation mode.
    """
    return remove_baseline(sr.decompress(model) if low_rank else model)


def layer_records(
    model: nn.Module, loss: Callable[[nn.Module], Tensor], operator_norms: bool = False
) -> dict[str, dict[str, Any]]:
    """Record every linear layer, convolution and embedding.

    Parameters
    ----------
    model : nn.Module
        With ordinary weights; gets gradients.
    loss : callable
        From the model to the scalar whose gradients are recorded.
    operator_norms : bool
        Whether to compute the spectral norms of convolutions as operators on their inputs.

    Returns
    -------
    dict[str, dict]
        By layer name: ``spectral_norm`` of the weight as a matrix (d_out, d_in); ``trained_norm``, the same for a
        weight that is trained as it is, see `trained_norms`; ``stable_rank``, its squared Frobenius norm over its
        squared spectral norm; ``top``, its largest singular values, descending; ``gradient_norm``, of the loss by the
        weight; and ``operator_norm`` for a convolution of stride 1, where asked for.
    """
    model.requires_grad_(True).zero_grad()
    sizes: dict[str, torch.Size] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: sizes.update({name: inputs[0].shape[2:]}))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.enable_grad():
        loss(model).backward()
    for handle in handles:
        handle.remove()
    records = {}
    for name, layer in weighted_layers(model).items():
        records[name] = _record(layer)
        if operator_norms and isinstance(layer, nn.Conv2d) and set(layer.stride) == {1} and layer.groups == 1:
            norm = circular_singular_values(layer.weight.detach(), sizes[name]).max()
            records[name]["operator_norm"] = float(norm)
    return records


@torch.no_grad()
def trained_norms(model: nn.Module) -> dict[str, float]:
    """Spectral norms of the weights that a baseline trains and then normalizes, by layer name; they may grow at will.

    Parameters
    ----------
    model : nn.Module
        Any model; weights that are computed from several tensors, as by weight normalization, are left out.
    """
    found = {}
    for name, layer in weighted_layers(model).items():
        if parametrize.is_parametrized(layer, "weight") and layer.parametrizations["weight"].is_tensor:
            found[name] = float(matrix_values(matrix_of(layer, layer.parametrizations["weight"].original))[0])
    return found


def diversity(samples: Tensor, reals: Tensor) -> float:
    """Mean distance between samples relative to that between real images: 0 where all are the same, about 1 at best.

    Parameters
    ----------
    samples, reals : Tensor
        (N, ...) and (M, ...), at least two of each.
    """
    spread, wanted = (float(torch.pdist(images.flatten(1).float()).mean()) for images in (samples, reals))
    return spread / wanted


def _record(layer: Any) -> dict[str, Any]:
    values = layer_values(layer)
    gradient = layer.weight.grad
    return {
        "spectral_norm": float(values[0]),
        "trained_norm": float(values[0]),
        "stable_rank": stable_rank(values),
        "top": values[:TOP_VALUES].tolist(),
        "gradient_norm": 0.0 if gradient is None else float(gradient.norm()),
    }
