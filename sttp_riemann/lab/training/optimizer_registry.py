"""Optimizers by name: a new one is one file and one row here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer

import sttp_riemann as sr


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer of the registry.

    If it keeps anything else than Adam or SGD does, it says so by a method ``state_shapes(parameter, group)``, from a
    parameter and its group to the shapes of its state by name.

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
    frame_options : callable
        From a recipe's section ``optimizer`` to further options of the Riemannian one.
    """

    riemannian: Callable[..., Optimizer]
    plain: Callable[..., Optimizer]
    options: Callable[[Any], dict[str, Any]]
    plain_options: Mapping[str, Any] = field(default_factory=dict)
    frame_options: Callable[[Any], dict[str, Any]] = lambda settings: {}


def _plain_adam(params: Iterable[Any], decoupled_weight_decay: bool = False, **options: Any) -> Optimizer:
    # Older releases of torch have no such option of Adam
    return (torch.optim.AdamW if decoupled_weight_decay else torch.optim.Adam)(params, **options)


def _adam(settings: Any) -> dict[str, Any]:
    betas, decoupled = (settings.betas[0], settings.betas[1]), settings.decoupled_weight_decay
    return {"betas": betas, "weight_decay": settings.weight_decay, "decoupled_weight_decay": decoupled}


def _adam_on_frames(settings: Any) -> dict[str, Any]:
    return {"moment": settings.moment, "max_angle": settings.max_angle, "fused": True}


def _sgd_on_frames(settings: Any) -> dict[str, Any]:
    return {"max_angle": settings.max_angle, "fused": True}


def _sgd(settings: Any) -> dict[str, Any]:
    return {"momentum": settings.momentum, "nesterov": settings.nesterov, "weight_decay": settings.weight_decay}


OPTIMIZERS: dict[str, OptimizerRow] = {
    "adam": OptimizerRow(sr.RiemannianAdam, _plain_adam, _adam, {"fused": True}, _adam_on_frames),
    "sgd": OptimizerRow(sr.RiemannianSGD, torch.optim.SGD, _sgd, {"fused": True}, _sgd_on_frames),
}
"""Optimizers by the name that recipes give them: a new one is one file and one row here."""
