"""Networks of the user's own, named ``module:attribute``: a class or a function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from sttp_riemann.errors import reason
from sttp_riemann.lab import plugins

SIZES_OF = ("num_classes", "in_channels")
"""Arguments of a network that the data set."""


def own_network(path: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> nn.Module:
    """Build a network of the user's own.

    Parameters
    ----------
    path : str
        ``module:attribute``.
    sizes : mapping
        ``num_classes`` and ``in_channels``; those are passed that its signature names.
    options : mapping
        Its further arguments.

    Returns
    -------
    nn.Module
        As it was made.

    Raises
    ------
    ValueError
        The module was not imported or has no such class or function, its signature is another, it raises, or it makes
        no module.
    """
    make = plugins.load(path)
    known = _parameters(path)
    arguments = {**{name: size for name, size in sizes.items() if name in known}, **options}
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"it cannot be called: {error}; its arguments are --network_options.NAME VALUE") from error
    try:
        network = make(**arguments)
    except Exception as error:
        # Of whatever kind: the code is the user's
        raise ValueError(f"it raises {type(error).__name__}: {reason(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"it gives a {type(network).__name__}, and a network is a torch.nn.Module")
    return network


def options_of_own(path: str) -> list[str]:
    """Names of the arguments of a network of the user's own, without those that the data set.

    Raises
    ------
    RecipeError
        The module was not imported, or has no such class or function.
    """
    return [name for name in _parameters(path) if name not in SIZES_OF]


def _parameters(path: str) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, about in inspect.signature(plugins.load(path)).parameters.items() if about.kind in kinds]
