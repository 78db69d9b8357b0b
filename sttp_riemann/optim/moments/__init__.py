"""Second moments of frames by name: a new kind is one file and one row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sttp_riemann.frames import PolarStiefel
from sttp_riemann.optim.moments.cores import CoresMoment
from sttp_riemann.optim.moments.matrix import MatrixMoment
from sttp_riemann.optim.moments.moment import Moment
from sttp_riemann.optim.moments.polar import PolarMoment

MOMENTS: dict[str, type[Moment]] = {"matrix": MatrixMoment, "polar": PolarMoment, "cores": CoresMoment}
"""Kinds by the name that `RiemannianAdam` and recipes give them."""
DEFAULT = "cores"
"""The kind of frames where none is named."""


def moment_of(group: Mapping[str, Any], manifold: Any) -> type[Moment]:
    """Kind of moment that a group of parameters has for points of a manifold.

    Parameters
    ----------
    group : mapping
        Options. ``moment`` is the kind's name, or None: `DEFAULT` for frames on `PolarStiefel`, "matrix" for other
        points. Optimizers without that option have "matrix".
    manifold : geoopt.Manifold
        Of the points.

    Returns
    -------
    type
    """
    name = group.get("moment", "matrix")
    return MOMENTS[name or (DEFAULT if isinstance(manifold, PolarStiefel) else "matrix")]


__all__ = ["DEFAULT", "MOMENTS", "CoresMoment", "MatrixMoment", "Moment", "PolarMoment", "moment_of"]
