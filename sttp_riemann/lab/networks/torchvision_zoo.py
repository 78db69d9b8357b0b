"""Torchvision's classification networks as ``torchvision:NAME``: untrained, with torchvision's weights or a file's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.errors import reason
from sttp_riemann.lab.data.errors import unknown_name
from sttp_riemann.lab.data.vision import downloaded, require_torchvision
from sttp_riemann.lab.networks.weights import read_weights

IMAGENET_CLASSES = 1000

# By default these return a tuple in training mode, and warn about their initialization.
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_network(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> nn.Module:
    """One of torchvision's classification networks with random weights.

    Parameters
    ----------
    name : str
        As in ``torchvision.models``.
    num_classes : int
        Length of the output.
    in_channels : int
        Channels of the images. If not 3, the first convolution gets a fresh weight.
    **options
        Passed on to torchvision. Auxiliary heads are off unless ``aux_logits`` says otherwise.

    Returns
    -------
    nn.Module
        On the CPU, in training mode.

    Raises
    ------
    ImportError
        If torchvision is missing.
    ValueError
        If torchvision has no such network, an option is unknown, or the first convolution cannot be found.
    """
    models = require_torchvision(f"network 'torchvision:{name}'").models
    # The module filter keeps segmentation, detection and video networks out.
    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("torchvision network", name, known)
    if name in WITH_AUXILIARY_HEADS:
        options = {"aux_logits": False, "init_weights": True, **options}
    try:
        network = models.get_model(name, weights=None, num_classes=num_classes, **options)
    except Exception as error:
        # Options go to constructors of many kinds, each with its own errors
        raise ValueError(f"network 'torchvision:{name}' does not take these options: {error}") from error
    if in_channels != 3:
        _take_channels(network, name, in_channels)
    return network


def pretrained_network(name: str, weights: Path | None = None, download: bool = False) -> tuple[nn.Module, int]:
    """One of torchvision's classification networks with trained weights.

    Parameters
    ----------
    name : str
        As in ``torchvision.models``.
    weights : Path, optional
        A file with its ``state_dict``, see `read_weights`, which sets the number of classes.
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
        state = read_weights(weights)
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


def _take_channels(network: nn.Module, name: str, in_channels: int) -> None:
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise ValueError(
            f"cannot find the convolution of 'torchvision:{name}' that sees the image, so it takes 3 channels only: "
            f"set channels to 3, not {in_channels}"
        )
    first.in_channels = in_channels
    first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, in_channels, *first.kernel_size))
    first.reset_parameters()


def _published(name: str, download: bool) -> dict[str, Tensor]:
    published: Any = require_torchvision(f"network 'torchvision:{name}'").models.get_model_weights(name).DEFAULT
    if not downloaded(published.url).is_file() and not download:
        raise ValueError(f"the weights of 'torchvision:{name}' are not here: allow download, or name a file of weights")
    try:
        state: dict[str, Tensor] = published.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:
        # Of many kinds, from the network to the pickle
        raise ValueError(f"the weights of 'torchvision:{name}' cannot be had: {reason(error)}") from error
    return state


def _classes(state: dict[str, Tensor], name: str) -> int:
    """Output length that weights belong to: only the last layer may differ from a network for ImageNet."""
    with torch.device("meta"):
        usual = torchvision_network(name, num_classes=IMAGENET_CLASSES).state_dict()
    rows = {state[key].shape[0] for key, own in usual.items() if state.get(key, own).shape != own.shape}
    return rows.pop() if len(rows) == 1 else IMAGENET_CLASSES
