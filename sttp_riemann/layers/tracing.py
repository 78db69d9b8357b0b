"""Layers under torch.fx, which follows a model with stand-ins for its inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch.fx import Proxy


def opaque(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the forward of a layer one node of a symbolic trace, as those of torch's own layers are.

    Parameters
    ----------
    forward : callable
        A method; its first argument is the input.

    Returns
    -------
    callable
        The same for real inputs.
    """

    @functools.wraps(forward)
    def traced(self: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(input, Proxy):
            tracer = input.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, *args), kwargs)  # type: ignore[attr-defined]
        return forward(self, input, *args, **kwargs)

    return traced
