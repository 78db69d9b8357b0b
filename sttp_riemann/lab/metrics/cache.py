"""Cache for tensors that take long to compute."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import write_atomically
from sttp_riemann.sealed import SealError, seal, unseal

VARIABLE = "STTP_RIEMANN_CACHE"
KEPT = "sttp_riemann cache 1"


def cache_folder() -> Path:
    """Cache folder: ``STTP_RIEMANN_CACHE`` if set, otherwise in the user's system cache."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    system = os.environ.get("XDG_CACHE_HOME")
    return (Path(system) if system else Path.home() / ".cache") / "sttp_riemann"


def kept(file: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read tensors from the cache; compute and store them if it does not hold them.

    Parameters
    ----------
    file : str
        Below the cache folder, ending with ``.safetensors``.
    compute : callable
        Gives the tensors by name.

    Returns
    -------
    dict[str, Tensor]
        On the CPU.
    """
    path = cache_folder() / file
    # A damaged or foreign file is replaced
    with contextlib.suppress(SealError, OSError):
        tensors, values = unseal(path, KEPT)
        if values == {"of": file}:
            return tensors
    found = compute()
    # Without a writable cache, only caching is lost
    with contextlib.suppress(SealError, CheckpointError):
        write_atomically(path, seal(found, {"of": file}, KEPT), inside=cache_folder())
    return found
