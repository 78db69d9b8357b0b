"""Move a model's parameters without moving its weights: gauge, canonical form, kind of frame."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from sttp_riemann.frames import FRAMES
from sttp_riemann.momentum import momentum_of, no_companions
from sttp_riemann.views import all_factors, check_choice


def gauge_fix(model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
    """Bring every inner core into St_U, in place; weights stay the same up to rounding.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. Householder frames are in St_U by construction, and nothing happens to them.
    optimizer : Optimizer, optional
        Its momentum is carried along, so that training goes on as if nothing had happened.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        If the model has no reparameterized layer, or the optimizer treats entries of a frame one by one.
    """
    companions = no_companions if optimizer is None else momentum_of(optimizer)
    for factors in all_factors(model):
        factors.fix_gauge(companions)
    return model


def canonicalize(model: nn.Module) -> nn.Module:
    """Choose one representative of all parameters that give the same weights, in place.

    The gauge is fixed, singular values are non-negative and descending, a learned S has the maximum 1, and in each
    column of U's last core the largest entry is positive. Networks of equal weights become equal arrays, up to
    rounding, where singular values are distinct.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. An optimizer that trains it must be made anew.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        If the model has no reparameterized layer.
    """
    for factors in all_factors(model):
        factors.canonicalize()
    return model


def convert_frames(model: nn.Module, frames: str) -> nn.Module:
    """Keep the same weights in another kind of frame, in place and exactly.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. An optimizer that trains it must be made anew.
    frames : {"riemannian", "householder"}
        The kind to hold from now on.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        If the kind is unknown, or the model has no reparameterized layer.
    """
    check_choice("frames", frames, tuple(FRAMES))
    for factors in all_factors(model):
        factors.convert(frames)
    return model
