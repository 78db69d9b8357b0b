"""Optimizers for models whose parameters are partly frames; they do not depend on the model."""

from sttp_riemann.optim.adam import RiemannianAdam
from sttp_riemann.optim.sgd import RiemannianSGD

__all__ = ["RiemannianAdam", "RiemannianSGD"]
