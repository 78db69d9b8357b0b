"""Check a penalty on spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sttp_riemann.testing.models import require

Penalty = Callable[[Sequence[Tensor], Tensor], Tensor]


def check_penalty(penalty: Penalty) -> None:
    """Check a spectral penalty, as `PENALTIES` has them.

    It gives a finite scalar with a finite gradient, at equal values too, where training starts; the gradient is that of
    its values; signs and order of singular values and of layers are of no consequence, as they mean nothing.

    Parameters
    ----------
    penalty : callable
        From the layers' values, one (rank,) a layer, and their bounds (L,) to a scalar.

    Raises
    ------
    AssertionError
        One line on what does not hold.

    Examples
    --------
    >>> import sttp_riemann as sr
    >>> import sttp_riemann.testing
    >>> from sttp_riemann.trains.spectrum import PENALTIES
    >>> sr.testing.check_penalty(PENALTIES["divergence"])
    """
    name = getattr(penalty, "__name__", "the penalty")
    values = [torch.tensor(v, dtype=torch.float64) for v in ([1.0, 0.8, 0.5, 0.1], [1.8, 0.7, 0.3], [0.5])]
    bounds = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    found = _value(penalty, values, bounds, name)
    require(bool(found.isfinite()), f"{name} is {float(found)} for values between 0.1 and 1.8")
    for what, changed in (
        ("the signs of values", [-v for v in values]),
        ("the order of values", [v.flip(0) for v in values]),
    ):
        require(_same(_value(penalty, changed, bounds, name), found), f"{name} depends on {what}")
    turned = _value(penalty, values[::-1], bounds.flip(0), name)
    require(_same(turned, found), f"{name} depends on the order of layers")
    for dtype in (torch.float32, torch.float64):
        equal = [torch.ones(4, dtype=dtype, requires_grad=True)]
        start = _value(penalty, equal, torch.ones(1, dtype=dtype), name)
        require(start.dtype == dtype, f"{name} of {dtype} is {start.dtype}")
        gradient = torch.autograd.grad(start, equal, allow_unused=True)[0] if start.requires_grad else None
        if gradient is None:
            raise AssertionError(f"{name} has no gradient")
        finite = bool(gradient.isfinite().all())
        require(finite, f"{name} has a gradient that is not finite where all values are equal")
    leaves = [v.clone().requires_grad_() for v in values]
    try:
        torch.autograd.gradcheck(lambda *own: penalty(own, bounds), tuple(leaves))
    except RuntimeError as error:
        raise AssertionError(f"{name} has another gradient than its values have") from error


def _value(penalty: Penalty, values: Sequence[Tensor], bounds: Tensor, name: str) -> Tensor:
    before = [v.detach().clone() for v in values]
    found = penalty(values, bounds)
    require(isinstance(found, Tensor) and found.dim() == 0, f"{name} gives no scalar tensor")
    kept = all(torch.equal(a, b) for a, b in zip(before, values, strict=True))
    require(kept, f"{name} changes the values that it is given")
    return found


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return bool(torch.isclose(ours, theirs, rtol=1e-9, atol=1e-12))
