"""Norms of convolutions as operators on whole maps, exact or certified from above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sttp_riemann.trains.places import Places, folded

ROUNDING = 0.01
"""Where float32 might add more than this to a norm, it is computed in float64."""
CHUNK = 2**24
"""Numbers of a kind that are held at a time, about."""


class Effort(NamedTuple):
    """How tight a bound is.

    Attributes
    ----------
    per_degree : int
        Samples of the frequencies in each dimension, by the degree in it: taps - 1.
    squarings : int
        Of the Gram matrices.
    """

    per_degree: int
    squarings: int


TRAINING = Effort(8, 6)
"""For a kernel of 3 x 3 and 64 channels, 4 to 6 % above the norm."""
REPORT = Effort(16, 9)
"""For the same kernel, 1 to 1.2 % above the norm."""


def circular_singular_values(kernel: Tensor, size: Sequence[int], stride: int = 1, dilation: int = 1) -> Tensor:
    """All singular values of a convolution with circular padding that keeps the size, up to its stride.

    Parameters
    ----------
    kernel : Tensor
        (C_out, C_in, taps), in one or more dimensions; with groups, one of them.
    size : sequence of int
        Of the maps that it reads.
    stride, dilation : int
        The same in all dimensions; the stride must divide `size`.

    Returns
    -------
    Tensor
        (size / stride, min(C_out, C_in * stride^dimensions)), descending along the last axis.

    Raises
    ------
    ValueError
        The stride does not divide the size.

    Notes
    -----
    Sedghi et al. 2019, "The Singular Values of Convolutional Layers" (arXiv 1805.10408). The Fourier transform turns a
    convolution of stride 1 into one matrix a frequency. A stride t adds up the t frequencies in each dimension that
    look alike on the coarser grid, so that their matrices stand side by side, over sqrt(t) a dimension.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.operators import circular_singular_values
    >>> circular_singular_values(torch.tensor([[[1.0, 1.0]]]), (4,)).squeeze(1).tolist()
    [2.0, 1.4142135381698608, 0.0, 1.4142135381698608]
    """
    space = len(size)
    if any(side % stride for side in size):
        raise ValueError(f"a stride of {stride} does not divide maps of {'x'.join(map(str, size))}")
    # A kernel larger than its map wraps around, more than once if need be
    wrapped = kernel.new_zeros(*kernel.shape[:2], *size)
    for place in product(*map(range, kernel.shape[2:])):
        at = (dilation * j % side for j, side in zip(place, size, strict=True))
        source: tuple[Any, ...] = (..., *place)
        target: tuple[Any, ...] = (..., *at)
        wrapped[target] += kernel[source]
    blocks = torch.fft.fftn(wrapped, dim=tuple(range(2, 2 + space)))
    for axis in range(2, 2 + space):
        split = blocks.unflatten(axis, (stride, -1)).movedim(axis, 2)
        blocks = split.flatten(1, 2) / math.sqrt(stride)
    return torch.linalg.svdvals(blocks.movedim((0, 1), (-2, -1)))


class Sampled(NamedTuple):
    """A kernel, ready to be looked at frequency by frequency.

    Attributes
    ----------
    taps : Tensor
        (L, groups, taps, a, b) with a <= b, of L convolutions.
    waves : Tensor
        (2, frequencies, taps): cosines and sines.
    factor : float
        Of the largest squared norm over the samples, for an upper bound of that of the operator.
    """

    taps: Tensor
    waves: Tensor
    factor: float


def sample(kernels: Tensor, places: Places, effort: Effort, size: Sequence[int] | None = None) -> Sampled:
    """Prepare kernels for `peaks` and `at`.

    Parameters
    ----------
    kernels : Tensor
        (L, groups, C_out / groups, C_in / groups, taps) of L convolutions; of a transposed one, that of its adjoint.
    places : Places
        Theirs.
    effort : Effort
        How tight the bound is to be.
    size : sequence of int, optional
        As `Places.meetings` takes it.

    Returns
    -------
    Sampled

    Notes
    -----
    **The norm on an infinite grid** is the largest over all frequencies w of the norm of K(w) = sum_j K(j) exp(i j w).
    **From samples to all frequencies.** For a unit vector u, ``p(w) = |K(w) u|^2`` is a trigonometric polynomial, not
    negative, of a degree n one below the number of taps. Let it have its maximum M at w*. Then p - M/2 is at most M/2
    in size and reaches it at w*, so that by a lemma of M. Riesz (1914) it is at least M/2 cos(n (w - w*)) up to a
    distance of pi/n. Of N >= n samples one is within pi/N of w*; there p is at least M cos(pi n / 2N)^2. One dimension
    after the other, the squared norm is at most the largest sampled one over the product of cos(pi n / 2N)^2.
    K is real, so that frequencies w and -w have the same norm, and half of the samples suffice.
    **Rounding.** In the standard model of rounding, with matrices of a x b, a <= b, and T taps, these are the largest
    errors, relative to the squared norm: 3 (T + 2) sqrt(T a) eps from K(w), 1.5 a b eps from the Gram matrix, a (a + 3)
    eps from the squarings of matrices of the Frobenius norm 1, whose own norm is at least 1/sqrt(a) and of which the
    j-th counts with 2^-j, and a^2 eps from the Frobenius norms. Squared norms are raised by more than all of these.
    """
    meetings = places.meetings(size)
    whole = folded(kernels, [m.fold for m in meetings])
    space = len(meetings)
    sides = tuple(whole.shape[-space:])
    taps = whole.flatten(-space).movedim(-1, -3)
    if taps.shape[-2] > taps.shape[-1]:
        taps = taps.mT
    wide, margin = _arithmetic(taps, math.prod(sides), effort)
    waves = _waves(sides, effort.per_degree, wide, taps.device)
    riesz = math.cos(math.pi / (2 * effort.per_degree)) ** (2 * sum([side > 1 for side in sides]))
    copies = math.prod([m.copies for m in meetings])
    return Sampled(taps.to(wide), waves, (1 + margin) * copies / riesz)


def operator_bound(
    kernel: Tensor, places: Places, size: Sequence[int] | None = None, effort: Effort = REPORT
) -> Tensor:
    """Upper bound of the norm of a convolution as an operator, for maps of one size or of any.

    Parameters
    ----------
    kernel : Tensor
        (C_out, C_in / groups, taps), as torch has it; of a transposed convolution (C_in, C_out / groups, taps).
    places : Places
        Of the convolution.
    size : sequence of int, optional
        Of the maps that it reads. It matters to circular padding with a stride only.
    effort : Effort
        How tight the bound is to be.

    Returns
    -------
    Tensor
        Scalar, differentiable: the gradient is that at the frequency with the largest norm.

    Notes
    -----
    See `sample`. The norm of a transposed convolution is that of its adjoint, and that of a grouped one the largest of
    its groups.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.operators import Places, operator_bound
    >>> places = Places((3,), (1,), (1,), ((1, 1),), "zeros", groups=1, transposed=False)
    >>> round(float(operator_bound(torch.tensor([[[1.0, 1.0, 1.0]]]), places)), 2)  # of 3
    3.01
    """
    blocks = kernel.unflatten(0, (places.groups, -1)).unsqueeze(0)
    sampled = sample(blocks, places, effort, size)
    values, where = peaks(sampled, effort.squarings)
    found = squared(sampled, values, where, effort.squarings)[0]
    return found.clamp_min(torch.finfo(found.dtype).tiny).sqrt().to(kernel.dtype)


def _arithmetic(taps: Tensor, count: int, effort: Effort) -> tuple[torch.dtype, float]:
    """Dtype, and what rounding in it may take from a squared norm; by sizes alone, so that W is the same in all."""
    least, most = taps.shape[-2:]
    steps = 4 * least * (least + most) + 3 * (count + 2) * math.sqrt(count * least) + 32
    narrow = steps * torch.finfo(torch.float32).eps
    if narrow <= 2 * ROUNDING:
        return taps.dtype, narrow
    return torch.float64, steps * torch.finfo(torch.float64).eps


@torch.no_grad()
def _waves(sides: tuple[int, ...], per_degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2, frequencies, taps), at least one of each pair of opposite frequencies."""
    counts = [max(1, per_degree * (side - 1)) for side in sides]
    wanted = counts.copy()
    # One of the pair lies in the first half of any dimension
    longest = counts.index(max(counts))
    wanted[longest] = counts[longest] // 2 + 1
    whole: dict[str, Any] = {"dtype": torch.float64, "device": device}
    turns = _grid([torch.arange(n, **whole) / count for n, count in zip(wanted, counts, strict=True)])
    angles = 2 * math.pi * (turns @ _grid([torch.arange(side, **whole) for side in sides]).mT)
    return torch.stack([angles.cos(), angles.sin()]).to(dtype)


def _grid(axes: list[Tensor]) -> Tensor:
    """(points, dimensions)."""
    return torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, -2)


@torch.no_grad()
def peaks(sampled: Sampled, squarings: int) -> tuple[Tensor, Tensor]:
    """Where each convolution has its largest norm.

    Parameters
    ----------
    sampled : Sampled
        L convolutions.
    squarings : int
        Of Gram matrices.

    Returns
    -------
    values : Tensor
        (L,): upper bounds of their squared norms, at the samples.
    where : Tensor
        (L,): group times number of frequencies, plus frequency.
    """
    taps, waves, _ = sampled
    layers, groups, _, least, most = taps.shape
    step = max(1, CHUNK // (layers * groups * least * most))
    found = [
        _squared_norms(_gram(*_symbols(taps, waves[:, first : first + step])), squarings)
        for first in range(0, waves.shape[1], step)
    ]
    values, where = torch.cat(found, 2).flatten(1).max(1)
    return values, where


def squared(sampled: Sampled, values: Tensor, where: Tensor, squarings: int) -> Tensor:
    """Upper bounds of squared norms from what `peaks` found, differentiable.

    Parameters
    ----------
    sampled : Sampled
        L convolutions.
    values, where : Tensor
        (L,) each, as `peaks` gives them.
    squarings : int
        Of Gram matrices.

    Returns
    -------
    Tensor
        (L,).
    """
    found = _at(sampled, where, squarings)
    # What was found is the value, and only the gradient is new
    return sampled.factor * (values + (found - found.detach()))


def _at(sampled: Sampled, where: Tensor, squarings: int) -> Tensor:
    taps, waves, _ = sampled
    count = waves.shape[1]
    group = torch.div(where, count, rounding_mode="floor")
    own = taps[torch.arange(len(taps), device=taps.device), group]
    real, imaginary = (torch.einsum("lt,ltab->lab", wave[where - group * count], own) for wave in waves)
    return _squared_norms(_gram(real, imaginary), squarings)


def _symbols(taps: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
    """(L, groups, T, a, b) and (2, F, T) to the real and the imaginary part, (L, groups, F, a, b)."""
    flat = taps.flatten(-2)
    real, imaginary = ((wave @ flat).unflatten(-1, taps.shape[-2:]) for wave in waves)
    return real, imaginary


def _gram(real: Tensor, imaginary: Tensor) -> Tensor:
    """A + B for the Gram matrix A + iB of matrices (..., a, b): A is symmetric and B skew, so their sum tells both."""
    turned = torch.cat([real + imaginary, imaginary - real], -1)
    return turned @ torch.cat([real, imaginary], -1).mT


def _squared_norms(gram: Tensor, squarings: int) -> Tensor:
    """Upper bounds of the norms of Hermitian matrices A + iB that are not negative, given as A + B (..., a, a).

    Delattre et al. 2023, "Efficient bound of Lipschitz constant for convolutional layers by Gram iteration": for
    P = G^(2^i) the norm of G is at most |P|_F^(1/2^i), and at least a^(-1/2^(i+1)) times that. With C = A + B, that of
    the square is C C^T + (C + C^T) (C - C^T) / 2: two real products. Both forms have the same Frobenius norm.
    """
    tiny = torch.finfo(gram.dtype).tiny
    power, bound = gram, None
    for i in range(squarings + 1):
        size = torch.linalg.matrix_norm(power, keepdim=True).clamp_min(tiny)
        bound = size if bound is None else bound * size ** (0.5**i)
        if i < squarings:
            power = power / size
            squares = _flat(power @ power.mT, power + power.mT, power - power.mT)
            power = torch.baddbmm(*squares, alpha=0.5).view_as(power)
    assert bound is not None
    return bound[..., 0, 0]


def _flat(*matrices: Tensor) -> list[Tensor]:
    return [m.reshape(-1, *m.shape[-2:]) for m in matrices]
