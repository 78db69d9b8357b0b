"""Where what takes long to compute is kept."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "STTP_RIEMANN_CACHE"


def cache_folder() -> Path:
    """Folder of the user's cache: ``STTP_RIEMANN_CACHE`` where set, and else where the system keeps caches."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    system = os.environ.get("XDG_CACHE_HOME")
    return (Path(system) if system else Path.home() / ".cache") / "sttp_riemann"
