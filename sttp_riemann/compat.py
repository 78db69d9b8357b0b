"""What depends on the releases of torch and geoopt."""

import warnings

import torch

with warnings.catch_warnings():
    # geoopt compiles functions in a way that torch warns of, and no user can act on that
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
    import geoopt  # noqa: F401 - from here by others


def in_transform() -> bool:
    """Whether a compiler, a tracer or a functorch transform looks on, so that calls may share nothing.

    Returns
    -------
    bool
    """
    return (
        torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._functorch.maybe_current_level() is not None
    )
