"""Second moments of frames by name: a new kind is one file and one row here."""

from sttp_riemann.optim.moments.cores import CoresMoment
from sttp_riemann.optim.moments.matrix import MatrixMoment
from sttp_riemann.optim.moments.moment import Moment
from sttp_riemann.optim.moments.polar import PolarMoment

MOMENTS: dict[str, type[Moment]] = {"matrix": MatrixMoment, "polar": PolarMoment, "cores": CoresMoment}
"""Kinds by the name that `RiemannianAdam` and recipes give them."""

__all__ = ["MOMENTS", "CoresMoment", "MatrixMoment", "Moment", "PolarMoment"]
