"""Networks by name: a new one is one file and one row here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from sttp_riemann.lab import plugins
from sttp_riemann.lab.data.errors import unknown_name
from sttp_riemann.lab.networks.char_transformer import CharTransformer
from sttp_riemann.lab.networks.cifar_resnet import CifarResNet
from sttp_riemann.lab.networks.digits_resnet import DigitsResNet
from sttp_riemann.lab.networks.own import SIZES_OF, options_of_own, own_network
from sttp_riemann.lab.networks.sngan import SIZES, SNGANDiscriminator, SNGANGenerator
from sttp_riemann.lab.networks.timm_zoo import timm_network
from sttp_riemann.lab.networks.torchvision_zoo import torchvision_network
from sttp_riemann.lab.networks.wide_resnet import WideResNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "digits_resnet": DigitsResNet,
    "cifar_resnet": CifarResNet,
    "wide_resnet": WideResNet,
    "char_transformer": CharTransformer,
    **{f"sngan{size}_generator": partial(SNGANGenerator, size) for size in SIZES},
    **{f"sngan{size}_discriminator": partial(SNGANDiscriminator, size) for size in SIZES},
}
TORCHVISION = "torchvision:"
"""Before the name of one of torchvision's networks."""
TIMM = "timm:"
"""Before the name of one of timm's networks."""
LARGEST_OPTION = 2**16
"""Largest integer option of a network."""
LARGEST_OPTIONS = {"depth": 1000}
MOST_NUMBERS = 2**31
"""Maximum number of a network's parameters: 8 GiB in float32."""


def build_model(name: str, num_classes: int | None = None, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build a network with fresh random weights, from torch's global generator.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`; ``torchvision:NAME`` or ``timm:NAME`` for one of their classification networks; or
        ``module:attribute``, a class or function of the user's own.
    num_classes : int or None
        None: 10 for a classifier, an unconditional network for a GAN.
    in_channels : int
        Channels of the images, also of those that a generator makes.
    **options
        Further arguments of the network's class, such as ``width``, a whole number, or ``variant``, a word; of the
        user's own, whatever it takes.

    Returns
    -------
    nn.Module
        On the CPU, in training mode.

    Raises
    ------
    ValueError
        If the network, or an option, is unknown, a number is out of range, or the user's own raises.
    ImportError
        If a network needs torchvision or timm, which is missing.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.lab.networks import build_model
    >>> network = build_model("digits_resnet", in_channels=1, width=16)
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    sizes = {"in_channels": in_channels} | ({} if num_classes is None else {"num_classes": num_classes})
    for size, number in sizes.items():
        _check_number(size, number)
    if plugins.is_path(name):
        return own_network(name, sizes, options)
    if name.startswith(TORCHVISION):
        builder: Callable[..., nn.Module] = partial(torchvision_network, name.removeprefix(TORCHVISION))
    elif name.startswith(TIMM):
        builder = partial(timm_network, name.removeprefix(TIMM))
    elif name in NETWORKS:
        builder = NETWORKS[name]
        _check_options(name, options)
    else:
        raise unknown_name("network", name, [*NETWORKS, f"{TORCHVISION}NAME", f"{TIMM}NAME", "module:attribute"])
    if options:
        # Counted before allocation, except for networks of others that cannot be built on the meta device
        with suppress(NotImplementedError), torch.device("meta"):
            numbers = sum(p.numel() for p in builder(**sizes, **options).parameters())
            if numbers > MOST_NUMBERS:
                raise ValueError(f"network {name!r} would have {numbers:,} numbers: {MOST_NUMBERS:,} are the most")
    return builder(**sizes, **options)


def options_of(name: str) -> list[str]:
    """Names of a network's options; none of those of torchvision and timm, which are not known here.

    Raises
    ------
    RecipeError
        The network is the user's own, and its module was not imported.
    """
    if plugins.is_path(name):
        return options_of_own(name)
    return [o for o in inspect.signature(NETWORKS[name]).parameters if o not in SIZES_OF] if name in NETWORKS else []


def _check_options(name: str, options: dict[str, Any]) -> None:
    parameters, known = inspect.signature(NETWORKS[name]).parameters, options_of(name)
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of network {name!r}", option, known)
        default = parameters[option].default
        # The network itself knows its words
        if not isinstance(default, str) and (value is not None or default is not None):
            _check_number(option, value)


def _check_number(name: str, number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"{name} must be a whole number, got {number!r}")
    largest = LARGEST_OPTIONS.get(name, LARGEST_OPTION)
    if not 1 <= number <= largest:
        raise ValueError(f"{name} must be {'at least 1' if number < 1 else f'at most {largest}'}, got {number}")
