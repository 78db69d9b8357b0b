"""Spectra, and penalties on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sttp_riemann.checks import LARGEST, is_number, shown
from sttp_riemann.trains.contraction import Pull

SpectrumKind = Literal["identity", "learned", "free"]
SPECTRA = ("identity", "learned", "free")
BoundOf = Literal["matrix", "operator"]
BOUNDS_OF = ("matrix", "operator")
SMALLEST = 1e-30
"""Smallest accepted bound on the singular values: float32 can represent its multiples."""
OF_ZEROS = 1e-8
"""What stored zeros are divided by, so that they stay zeros with a finite gradient."""
CLAMP = 1e-7
"""Where the logarithms of penalties end: a value or gap that is smaller, relative to the largest, has no gradient."""
TIED = 1e-4
"""Relative distance up to which values count as equally large in the gradient of their maximum."""


def check_bound(name: str, bound: object) -> None:
    """Refuse an invalid bound on the singular values.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    bound : object
        As given.

    Raises
    ------
    ValueError
        It is neither "initial" nor a number in the accepted range.
    """
    number: Any = bound if is_number(bound) else 0
    if not SMALLEST <= number <= LARGEST and not (isinstance(bound, str) and bound == "initial"):
        raise ValueError(
            f"{name} must be a positive number from {SMALLEST:g} to {LARGEST:g}, or 'initial'; got {shown(bound)}"
        )


def spectrum_values(kind: SpectrumKind, stored: Tensor, bounds: Tensor | float) -> Tensor:
    """Singular values from the trained parameter S.

    Parameters
    ----------
    kind : {"learned", "free"}
        s = bound * S / max|S|, zeros for an S of zeros; or s = S.
    stored : Tensor
        (B, rank), S of B layers.
    bounds : Tensor or float
        (B, 1) or one for all layers: largest singular values. Ignored by a free spectrum.

    Returns
    -------
    Tensor
        (B, rank).

    Notes
    -----
    Obukhov et al. 2021, Section 4: "L"; a bound other than 1 and the free spectrum are ours. As in the code released
    with the paper, zeros are divided by 1e-8: they stay zeros, and have a finite gradient.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.spectrum import spectrum_values
    >>> spectrum_values("learned", torch.tensor([[4.0, 2.0]]), 1.0).tolist()
    [[1.0, 0.5]]
    """
    if kind == "free":
        return stored
    values = stored / _largest(stored.abs())
    return values if isinstance(bounds, float) and bounds == 1 else values * bounds


def trace_values(kind: SpectrumKind, stored: Tensor, bounds: Tensor | float) -> tuple[Tensor, Pull]:
    """`spectrum_values` without autograd, together with its pullback.

    Parameters
    ----------
    kind, stored, bounds
        As there.

    Returns
    -------
    values : Tensor
        (B, rank).
    pull : callable
        From the gradient of the values to that of S.
    """
    if kind == "free":
        return stored, lambda grad: (grad,)
    largest = _floored(torch.linalg.vector_norm(stored, math.inf, 1, keepdim=True))
    # Bitwise equal to `spectrum_values`, so that a network gives the same outputs with and without gradients
    relative = stored / largest
    values = relative if isinstance(bounds, float) and bounds == 1 else relative * bounds

    def pull(grad: Tensor) -> tuple[Tensor]:
        tied = torch.nn.functional.hardshrink(relative, 1 - TIED)
        # Of the tied values in their mean, times their number
        share = _not_zero(torch.linalg.vector_norm(tied, 1, 1, keepdim=True))
        along = (grad * relative).sum(1, keepdim=True).div_(share)
        of_stored = torch.addcmul(grad, along, tied.sign_(), value=-1).div_(largest)
        return (of_stored if values is relative else of_stored.mul_(bounds),)

    return values, pull


def _largest(sizes: Tensor) -> Tensor:
    """Largest value of each row (L, 1), its gradient shared evenly by all values within `TIED` of it.

    Values start equal, and a step of Adam moves them all equally far: the gradient of the maximum alone would
    go to whichever value rounding makes the largest, so that runs on different machines would diverge at once.
    """
    largest = _floored(sizes.detach().amax(1, keepdim=True))
    tied = sizes.detach() >= (1 - TIED) * largest
    shared = (sizes * tied).sum(1, keepdim=True)
    # The second factor is 1 and carries the gradient
    return largest * (1 + (shared - shared.detach()) / _not_zero(shared.detach()))


def _floored(largest: Tensor) -> Tensor:
    tiny = torch.finfo(largest.dtype).tiny
    return largest.masked_fill(largest < tiny, max(OF_ZEROS, tiny))


def _not_zero(sizes: Tensor) -> Tensor:
    """A divisor of zeros that leaves them zeros."""
    return sizes.clamp_min(torch.finfo(sizes.dtype).tiny)


def d_optimal(values: Sequence[Tensor], bounds: Tensor) -> Tensor:
    """Mean over all layers' values of -log|s| (D-optimal design).

    Parameters
    ----------
    values : sequence of Tensor
        One (rank,) a layer.
    bounds : Tensor
        (L,); a value below 1e-7 of its layer's counts as that.

    Returns
    -------
    Tensor
        Scalar.

    Notes
    -----
    Jiang et al. 2019, "On computation and generalization of GANs under spectrum control"; Obukhov et al. 2021,
    Eq. (10). The end of the logarithm, where the gradient becomes 0, is that of the code released with the latter.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.spectrum import PENALTIES
    >>> values, bounds = [torch.tensor([1.0, 0.5]), torch.tensor([0.5])], torch.ones(2)
    >>> round(PENALTIES["d_optimal"](values, bounds).item(), 4)  # log(2) for two values of three
    0.4621
    """
    sizes = torch.cat(list(values)).abs()
    ends = torch.cat([CLAMP * bound.expand(len(s)) for s, bound in zip(values, bounds, strict=True)])
    return -sizes.clamp(min=ends).log().mean()


def divergence(values: Sequence[Tensor], bounds: Tensor) -> Tensor:
    """Divergence of each layer's spectrum from a density that falls from its largest value, mean over layers.

    It is the penalty of that name in the code released with the paper. The term of a gap between neighbouring values,
    which are relative to the largest, is (1 - s)^2 / 0.01 - log(gap) with s the smaller of the two; a gap counts as at
    least 1e-7. Equal values, at which training starts, have a gradient of 0. A layer of rank 1 has no gap and does not
    count.

    Parameters
    ----------
    values : sequence of Tensor
        One (rank,) a layer.
    bounds : Tensor
        Unused.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        All layers have rank 1.

    Notes
    -----
    After Jiang et al. 2019; constants as released with Obukhov et al. 2021.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.spectrum import PENALTIES
    >>> values = [torch.tensor([1.0, 0.9, 0.7, 0.4]), torch.tensor([1.0, 0.5])]
    >>> round(PENALTIES["divergence"](values, torch.ones(2)).item(), 2)
    21.37
    """
    spectra = [s.abs() for s in values if len(s) > 1]
    if not spectra:
        raise ValueError("penalty 'divergence' is of gaps between values, and every layer has rank 1: raise the rank")
    terms = []
    for s in spectra:
        upper, lower = _neighbours(s / s.amax().clamp_min(CLAMP))
        terms.append(((1 - lower) ** 2 / 0.01 - (upper - lower).clamp_min(CLAMP).log()).mean())
    return torch.stack(terms).mean()


def half_normal(values: Sequence[Tensor], bounds: Tensor, width: float = 0.1, floor: float = 1e-3) -> Tensor:
    """Kullback-Leibler divergence of each layer's spectrum from a half-normal density at its bound, mean over layers.

    Unlike `divergence` it spreads values that start equal, and its gradient is bounded, by about 1 / `floor`.

    Parameters
    ----------
    values : sequence of Tensor
        One (rank,) a layer.
    bounds : Tensor
        (L,) the mode of the reference density of each layer.
    width : float
        Variance of the reference density, relative to the bound.
    floor : float
        Smallest relative gap between values that still counts, so that equal values give a finite gradient.

    Returns
    -------
    Tensor
        Scalar, up to a constant.

    Notes
    -----
    After Jiang et al. 2019. The density of the values is estimated from the gaps between neighbours in order: near s_i
    it is 1 / (r (s_i - s_{i+1})), with 0 following the last.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.spectrum import PENALTIES
    >>> equal, spread = torch.ones(4), torch.tensor([1.0, 0.9, 0.7, 0.4])
    >>> penalties = [PENALTIES["half_normal"]([values], torch.ones(1)) for values in (equal, spread)]
    >>> bool(penalties[1] < penalties[0])
    True
    """
    terms = []
    for s, bound in zip(values, bounds, strict=True):
        upper, lower = _neighbours(torch.cat([s.abs() / bound, s.new_zeros(1)]))
        negative_entropy = -((upper - lower) * len(s) + floor).log()
        negative_log_reference = (1 - upper) ** 2 / (2 * width) + 0.5 * math.log(math.pi * width / 2)
        terms.append((negative_entropy + negative_log_reference).mean())
    return torch.stack(terms).mean()


def _neighbours(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Sort sizes (n,) in descending order: the larger and the smaller of each two neighbours, (n - 1,) both."""
    ordered = sizes.sort(descending=True).values
    return ordered[:-1], ordered[1:]


PENALTIES: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    "d_optimal": d_optimal,
    "divergence": divergence,
    "half_normal": half_normal,
}
