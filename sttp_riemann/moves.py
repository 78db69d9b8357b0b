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

    Notes
    -----
    Obukhov et al. 2021 describe St_U, the frames whose leading block is upper triangular. Here it is reached by one
    sweep from either end of each chain. `PolarStiefel` steps alike in every gauge, so the weights of all training that
    follows are the same, up to rounding.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, init="orthogonal").double()
    >>> optimizer = sr.RiemannianSGD(model.parameters(), lr=0.1)
    >>> model(torch.ones(16).double()).square().sum().backward()
    >>> optimizer.step()
    >>> before = model.weight.detach().clone()
    >>> model = sr.gauge_fix(model, optimizer)
    >>> torch.allclose(model.weight, before)
    True
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

    Notes
    -----
    Beyond the gauge of Obukhov et al. 2021, a diagonal spectrum leaves the order of the singular values and the sign of
    each pair of singular vectors free; both are fixed as in a singular value decomposition.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, init="orthogonal", spectrum="free").double()
    >>> model.factors.spectra.assign_([torch.tensor([1.0, -3.0, 2.0, 0.5])])
    >>> before = model.weight.detach().clone()
    >>> model = sr.canonicalize(model)
    >>> torch.allclose(model.weight, before)
    True
    >>> model.factors.spectra.S.tolist()
    [3.0, 2.0, 1.0, 0.5]
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

    Notes
    -----
    Reflectors of a frame are those of its QR factorization (Golub and Van Loan 2013, Section 5.2).

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4)
    >>> before, riemannian = model.weight.detach().clone(), sr.compression(model)
    >>> model = sr.convert_frames(model, "householder")
    >>> torch.allclose(model.weight, before, atol=1e-6)
    True
    >>> riemannian.stored, sr.compression(model).stored, sr.compression(model).dof
    (100, 64, 64)
    """
    check_choice("frames", frames, tuple(FRAMES))
    for factors in all_factors(model):
        factors.convert(frames)
    return model
