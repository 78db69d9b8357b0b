"""Code that depends on the versions of torch and geoopt."""

import warnings

import torch

with warnings.catch_warnings():
    # geoopt compiles functions in a way that torch warns about; users cannot act on the warning
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
    import geoopt

PLAIN = {torch.Tensor, torch.nn.Parameter, geoopt.ManifoldParameter, type(None)}
"""Tensor classes that are never sharded."""


def in_transform() -> bool:
    """Whether a compiler, tracer or functorch transform is active, so that calls must not share results.

    Returns
    -------
    bool
    """
    return (
        torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._functorch.maybe_current_level() is not None
    )
