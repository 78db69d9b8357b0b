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
SMALLEST = 1e-30
"""Largest singular value that may be asked for, at least; float32 has room for its multiples."""
TIED = 1e-4
"""Relative distance up to which values count as equally large in the gradient of their maximum."""


def check_bound(name: str, bound: object) -> None:
    """Refuse what is no largest singular value.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    bound : object
        As given.

    Raises
    ------
    ValueError
        It is no number that float32 has room for the multiples of, nor "initial".
    """
    number: Any = bound if is_number(bound) else 0
    if not SMALLEST <= number <= LARGEST and not (isinstance(bound, str) and bound == "initial"):
        raise ValueError(
            f"{name} must be a positive number from {SMALLEST:g} to {LARGEST:g}, or 'initial'; got {shown(bound)}"
        )


def spectrum_values(kind: SpectrumKind, stored: Tensor, bounds: Tensor | float) -> Tensor:
    """Singular values from what is trained for them.

    Parameters
    ----------
    kind : {"learned", "free"}
        s = bound * S / max|S|, or s = S.
    stored : Tensor
        (B, rank), S of B layers.
    bounds : Tensor or float
        (B, 1) or one for all, largest singular values; of no consequence to a free spectrum.

    Returns
    -------
    Tensor
        (B, rank).

    Notes
    -----
    Obukhov et al. 2021, Section 4: "L"; a bound other than 1 and the free spectrum are ours.

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
    """`spectrum_values` without autograd, and what carries a gradient of theirs back.

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
    sizes = stored.abs()
    largest = _not_zero(sizes.amax(1, keepdim=True))
    tied = sizes >= (1 - TIED) * largest
    share = _not_zero((sizes * tied).sum(1, keepdim=True))  # of the tied values in their mean, times their number
    # To the bit as `spectrum_values`, so that a network computes the same whether it is trained or not
    values = stored / largest
    values = values if isinstance(bounds, float) and bounds == 1 else values * bounds
    scale = bounds / largest

    def pull(grad: Tensor) -> tuple[Tensor]:
        along = (grad * values).sum(1, keepdim=True) / share
        return (grad * scale - along * tied * stored.sign(),)

    return values, pull


def _largest(sizes: Tensor) -> Tensor:
    """Largest of each row (L, 1), its gradient shared evenly by all that come within `TIED` of it.

    Values start equal, and a step of Adam moves them all by the same length: the gradient of the maximum alone would
    go to whichever rounding makes the largest, so that machines, or numbers of processes, would part at once.
    """
    largest = _not_zero(sizes.detach().amax(1, keepdim=True))
    tied = sizes.detach() >= (1 - TIED) * largest
    shared = (sizes * tied).sum(1, keepdim=True)
    # The second factor is 1, and has the gradient
    return largest * (1 + (shared - shared.detach()) / _not_zero(shared.detach()))


def _not_zero(sizes: Tensor) -> Tensor:
    """Values that are all zero stay zero, and become no NaN."""
    return sizes.clamp_min(torch.finfo(sizes.dtype).tiny)


def d_optimal(values: Sequence[Tensor], bounds: Tensor) -> Tensor:
    """Mean over all layers' values of -log|s| (D-optimal design).

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

    Notes
    -----
    Jiang et al. 2019, "On computation and generalization of GANs under spectrum control"; Obukhov et al. 2021, Eq. 8.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.spectrum import PENALTIES
    >>> values, bounds = [torch.tensor([1.0, 0.5]), torch.tensor([0.5])], torch.ones(2)
    >>> round(PENALTIES["d_optimal"](values, bounds).item(), 4)  # log(2) for two values of three
    0.4621
    """
    flat = torch.cat(list(values)).abs()
    return -flat.clamp_min(torch.finfo(flat.dtype).tiny).log().mean()


def divergence(values: Sequence[Tensor], bounds: Tensor, width: float = 0.1, floor: float = 1e-3) -> Tensor:
    """Kullback-Leibler divergence of each layer's spectrum from a half-normal density at its bound, mean over layers.

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
    Jiang et al. 2019. The density of the values is estimated from the gaps between neighbours in order: near s_i it is
    1 / (r (s_i - s_{i+1})), with 0 following the last.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.spectrum import PENALTIES
    >>> equal, spread = torch.ones(4), torch.tensor([1.0, 0.9, 0.7, 0.4])
    >>> divergence = [PENALTIES["divergence"]([values], torch.ones(1)) for values in (equal, spread)]
    >>> bool(divergence[1] < divergence[0])
    True
    """
    terms = []
    for s, bound in zip(values, bounds, strict=True):
        ordered = (s.abs() / bound).sort(descending=True).values
        gaps = ordered - torch.cat([ordered[1:], ordered.new_zeros(1)])
        negative_entropy = -(gaps * len(s) + floor).log()
        negative_log_reference = (1 - ordered) ** 2 / (2 * width) + 0.5 * math.log(math.pi * width / 2)
        terms.append((negative_entropy + negative_log_reference).mean())
    return torch.stack(terms).mean()


PENALTIES: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {"d_optimal": d_optimal, "divergence": divergence}
