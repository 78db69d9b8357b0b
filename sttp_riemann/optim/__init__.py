"""Optimizers for models whose parameters are partly frames; they know no model."""

from sttp_riemann.optim.adam import RiemannianAdam
from sttp_riemann.optim.sgd import RiemannianSGD

__all__ = ["RiemannianAdam", "RiemannianSGD"]
