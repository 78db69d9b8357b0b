"""The optimizer state of a frame that follows it through gauge moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

CARRIED = ("exp_avg", "momentum_buffer")
PER_MATRIX = ("exp_avg_sq", "max_exp_avg_sq")
INDICES = ("outer", "inner")
"""Rank indices of a core. For each an optimizer may keep a Gram matrix, ``INDEX_gram``, and a basis as columns,
``INDEX_basis``, which turn with it. Moments are then told in these bases, and stay."""
SAME = 1e-4


def momentum_of(optimizer: Optimizer) -> Callable[[Tensor], Sequence[Tensor]]:
    """Function from a parameter to its first moments, which are rotated with the frame when the gauge is fixed.

    A second moment that is one number per matrix is gauge-invariant and stays, and so are moments in bases that turn.

    Raises
    ------
    ValueError
        When called with a parameter whose entries the optimizer scales one by one.
    """

    def companions(parameter: Tensor) -> Sequence[Tensor]:
        state = optimizer.state.get(parameter, {})
        if any(f"{index}_basis" in state for index in INDICES):
            return ()
        for name in PER_MATRIX:
            second = state.get(name)
            # geoopt repeats one number per matrix in every entry, each with its own rounding
            if second is not None and not torch.allclose(second, second[..., :1, :1], rtol=SAME, atol=0):
                raise ValueError(
                    f"{type(optimizer).__name__} scales the entries of a frame one by one, which depends on the gauge: "
                    "train Riemannian frames with RiemannianAdam or RiemannianSGD"
                )
        return [state[name] for name in CARRIED if state.get(name) is not None]

    return companions


def waiting(parameter: Tensor) -> Sequence[Tensor]:
    """The gradient that a parameter holds for a step yet to come, which is rotated with the frame."""
    return () if parameter.grad is None else (parameter.grad,)


def turn_bases_(optimizer: Optimizer, parameter: Tensor, outer: Tensor | None, inner: Tensor | None) -> None:
    """Carry what an optimizer keeps for the rank indices of a core, in place, after the core was turned.

    Parameters
    ----------
    optimizer : Optimizer
        Of the core's parameter, or not.
    parameter : Tensor
        The core.
    outer, inner : Tensor or None
        (rank, rank): the core became ``outer^T core inner``; None where an index was left alone.
    """
    state = optimizer.state.get(parameter, {})
    for index, move in zip(INDICES, (outer, inner), strict=True):
        gram, basis = state.get(f"{index}_gram"), state.get(f"{index}_basis")
        if move is not None and gram is not None:
            gram.copy_(move.mT @ gram.to(move.dtype) @ move)
        if move is not None and basis is not None:
            basis.copy_(move.mT @ basis.to(move.dtype))


FRESH = {
    *("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "sum"),
    *("square_avg", "grad_avg", "acc_delta"),
}
"""What torch's optimizers keep for a parameter and begin with zeros."""


def restart(optimizer: Optimizer, parameter: Tensor) -> None:
    """Let an optimizer begin anew with a parameter whose numbers now mean something else.

    Parameters
    ----------
    optimizer : Optimizer
        What it keeps for the parameter becomes what it begins with.
    parameter : Tensor
        One of its own, or not.
    """
    state = optimizer.state.get(parameter, {})
    if FRESH.issuperset(state):
        for name, value in state.items():
            if isinstance(value, Tensor):
                value.zero_()
            elif value is not None:
                state[name] = 0
    else:
        del optimizer.state[parameter]
