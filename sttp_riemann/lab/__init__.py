"""Everything that runs experiments: the verbs of the command line are functions of the same names here.

Examples
--------
>>> from sttp_riemann import lab
>>> study = lab.compare("digits", seeds=[0], steps=50)  # doctest: +SKIP
>>> study.table, study.figures, study.findings  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sttp_riemann.lab.verbs import ablate, compare, compress, inspect, report, train

__all__ = ["ablate", "compare", "compress", "inspect", "report", "train"]


def __getattr__(name: str) -> Any:
    # A verb imports what only it needs, and the package none of it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sttp_riemann.lab import verbs

    return getattr(verbs, name)
