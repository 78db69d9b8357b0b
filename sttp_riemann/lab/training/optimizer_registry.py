"""Optimizers by name: a new one is one file and one row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer

import sttp_riemann as sr


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer of the registry.

    Attributes
    ----------
    riemannian : callable
        From parameters and options to the optimizer where frames are points of a manifold.
    plain : callable
        The same everywhere else; torch's own.
    options : callable
        From a recipe's section ``optimizer`` to the options of both, except ``lr``.
    plain_options : mapping
        Further options of the plain one.
    """

    riemannian: Callable[..., Optimizer]
    plain: Callable[..., Optimizer]
    options: Callable[[Any], dict[str, Any]]
    plain_options: Mapping[str, Any] = field(default_factory=dict)


def _adam(settings: Any) -> dict[str, Any]:
    return {"betas": (settings.betas[0], settings.betas[1]), "weight_decay": settings.weight_decay}


def _sgd(settings: Any) -> dict[str, Any]:
    return {"momentum": settings.momentum, "nesterov": settings.nesterov, "weight_decay": settings.weight_decay}


OPTIMIZERS: dict[str, OptimizerRow] = {
    "adam": OptimizerRow(sr.RiemannianAdam, torch.optim.Adam, _adam, {"fused": True}),
    "sgd": OptimizerRow(sr.RiemannianSGD, torch.optim.SGD, _sgd, {"fused": True}),
}
"""Optimizers by the name that recipes give them: a new one is one file and one row here."""
