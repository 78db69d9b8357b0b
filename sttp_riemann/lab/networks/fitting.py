"""The network that given weights are of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.lab.networks.registry import build_model


def network_for(name: str, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> tuple[nn.Module, int, int]:
    """Build the network that weights are of; its sizes follow from theirs.

    Parameters
    ----------
    name : str
        As `build_model` takes it.
    state : mapping
        The weights.
    options : mapping
        Further arguments of the network.

    Returns
    -------
    network : nn.Module
        With these weights.
    classes : int
        Length of its output: that of the last tensor.
    channels : int
        Of its inputs: the second size of the first matrix, or else 3 or 1.

    Raises
    ------
    ValueError
        No such network has tensors of these names and shapes.
    """
    inner = [t.shape[1] for t in state.values() if t.ndim > 1]
    lengths = [t.shape[0] for t in state.values() if t.ndim]
    if not inner:
        raise ValueError("the weights have no matrix: name a state_dict of a network")
    wanted = {key: t.shape for key, t in state.items()}
    fault = ""
    for channels in dict.fromkeys((inner[0], 3, 1)):
        with suppress(ValueError, TypeError):
            network = build_model(name, num_classes=lengths[-1], in_channels=channels, **options)
            found = {key: t.shape for key, t in network.state_dict().items()}
            if found == wanted:
                network.load_state_dict(state)
                return network, lengths[-1], channels
            other = next(key for key in {**wanted, **found} if wanted.get(key) != found.get(key))
            fault = (
                fault or f"{other!r} is {_shape(wanted.get(other))}, and the network's is {_shape(found.get(other))}"
            )
    if not fault:
        # Tells what is wrong with the name or the options
        build_model(name, num_classes=lengths[-1], in_channels=inner[0], **options)
    raise ValueError(f"{fault}: name its own options, or its data with --data")


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a number"
