"""Layers under torch.fx, which traces a model with proxies for its inputs, and under an exporter of ONNX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy


def opaque(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the forward of a layer a single node of a symbolic trace, as for torch's own layers.

    Parameters
    ----------
    forward : callable
        A method.

    Returns
    -------
    callable
        The same method; proxies become one node.
    """

    @functools.wraps(forward)
    def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Most calls are of one tensor
        if len(args) == 1 and not kwargs and type(args[0]) is Tensor:
            return forward(self, args[0])
        first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Proxy)), None)
        if first is not None:
            tracer = first.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), args, kwargs)  # type: ignore[attr-defined]
        return forward(self, *args, **kwargs)

    return traced


def refuse_torchscript_onnx() -> None:
    """Refuse the exporter of ONNX that traces with TorchScript: it lacks operators which frames are built with.

    Raises
    ------
    RuntimeError
        Such an export is under way.
    """
    if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "the TorchScript exporter of ONNX lacks operators that build W from its cores: call sr.decompress(model) "
            "before the export; Riemannian frames also export as they are with torch.onnx.export(..., dynamo=True)"
        )
