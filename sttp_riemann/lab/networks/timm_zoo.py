"""timm's classification networks as ``timm:NAME``, untrained."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from sttp_riemann.lab.data.errors import unknown_name

FOREIGN = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "checkpoint_path",
    "cache_dir",
)
"""Arguments with which timm downloads or reads files."""


def timm_network(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> nn.Module:
    """One of timm's networks with random weights.

    Parameters
    ----------
    name : str
        As ``timm.list_models()`` gives it.
    num_classes : int
        Length of the output.
    in_channels : int
        Channels of the images.
    **options
        Passed on to timm, such as ``img_size`` of a transformer.

    Returns
    -------
    nn.Module
        On the CPU, in training mode.

    Raises
    ------
    ImportError
        timm is missing.
    ValueError
        timm has no such network, an option is unknown, or one would read weights.
    """
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        raise ImportError(f"network 'timm:{name}' needs timm: pip install timm") from error
    # Not asked of timm itself, which downloads what hf-hub:NAME stands for
    known = timm.list_models()
    if name not in known:
        raise unknown_name("timm network", name, known)
    for option in options:
        if option in FOREIGN:
            raise ValueError(f"network 'timm:{name}' takes no {option}: give its weights with --weights FILE")
    try:
        network: nn.Module = timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **options)
    except Exception as error:
        # Options go to constructors of many kinds, each with its own errors
        raise ValueError(f"network 'timm:{name}' does not take these options: {error}") from error
    return network
