"""Cache for results that take long to compute."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "STTP_RIEMANN_CACHE"


def cache_folder() -> Path:
    """Cache folder: ``STTP_RIEMANN_CACHE`` if set, otherwise in the user's system cache."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    system = os.environ.get("XDG_CACHE_HOME")
    return (Path(system) if system else Path.home() / ".cache") / "sttp_riemann"
