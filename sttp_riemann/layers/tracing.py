"""Layers under torch.fx, which traces a model with proxies for its inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch.fx import Proxy


def opaque(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the forward of a layer a single node of a symbolic trace, as for torch's own layers.

    Parameters
    ----------
    forward : callable
        A method; its first argument is the input.

    Returns
    -------
    callable
        The same method; proxies become one node.
    """

    @functools.wraps(forward)
    def traced(self: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(input, Proxy):
            tracer = input.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, *args), kwargs)  # type: ignore[attr-defined]
        return forward(self, input, *args, **kwargs)

    return traced
