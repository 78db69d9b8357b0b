"""Torchvision's classification networks, untrained, as ``torchvision:NAME``."""

from __future__ import annotations

from typing import Any

from torch import nn

from sttp_riemann.lab.data.errors import unknown_name
from sttp_riemann.lab.data.vision import require_torchvision

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
