"""Torchvision's classification networks with trained weights: torchvision's own, or from a file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sttp_riemann.lab.data.vision import require_torchvision
from sttp_riemann.lab.networks.torchvision_zoo import WITH_AUXILIARY_HEADS, torchvision_network

IMAGENET_CLASSES = 1000


def pretrained_network(name: str, weights: Path | None = None, download: bool = False) -> tuple[nn.Module, int]:
    """One of torchvision's classification networks with trained weights.

    Parameters
    ----------
    name : str
        As in ``torchvision.models``.
    weights : Path, optional
        A file with its ``state_dict``, .safetensors or written by `torch.save`, which sets the number of classes.
        By default torchvision's best weights, if they have been downloaded before.
    download : bool
        Whether they may be downloaded now.

    Returns
    -------
    network : nn.Module
        In evaluation mode.
    classes : int
        Length of its output.

    Raises
    ------
    ValueError
        There is no such network, its weights are not available, or the file belongs to another network.
    ImportError
        torchvision is missing.
    """
    if weights is not None:
        state = _read(weights)
        classes = _classes(state, name)
        network = torchvision_network(name, num_classes=classes)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{weights} does not fit 'torchvision:{name}': {str(error).splitlines()[-1]}") from error
        return network.eval(), classes
    # These were trained with heads that are useless afterwards, and rescale images themselves
    auxiliary = name in WITH_AUXILIARY_HEADS
    options = {"transform_input": True} if auxiliary else {}
    network = torchvision_network(name, num_classes=IMAGENET_CLASSES, **options)
    network.load_state_dict(_published(name, download), strict=not auxiliary)
    return network.eval(), IMAGENET_CLASSES


def _published(name: str, download: bool) -> dict[str, Tensor]:
    published: Any = require_torchvision(f"network 'torchvision:{name}'").models.get_model_weights(name).DEFAULT
    there = (Path(torch.hub.get_dir()) / "checkpoints" / published.url.rsplit("/", 1)[1]).is_file()
    if not there and not download:
        raise ValueError(f"the weights of 'torchvision:{name}' are not here: allow download, or name a file of weights")
    try:
        state: dict[str, Tensor] = published.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the weights of 'torchvision:{name}' cannot be had: {reason}") from error
    return state


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"weights {path} cannot be read as a state_dict, .safetensors or .pth: {reason}") from error


def _classes(state: dict[str, Tensor], name: str) -> int:
    """Output length that weights belong to: only the last layer may differ from a network for ImageNet."""
    with torch.device("meta"):
        usual = torchvision_network(name, num_classes=IMAGENET_CLASSES).state_dict()
    rows = {state[key].shape[0] for key, own in usual.items() if state.get(key, own).shape != own.shape}
    return rows.pop() if len(rows) == 1 else IMAGENET_CLASSES
