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


# Asked several times in every forward
_is_compiling, _is_tracing = torch.compiler.is_compiling, torch._C._is_tracing
_functorch_level = torch._C._functorch.maybe_current_level


def in_transform() -> bool:
    """Whether a compiler, tracer or functorch transform is active, so that calls must not share results.

    Returns
    -------
    bool
    """
    return _is_compiling() or _is_tracing() or _functorch_level() is not None
