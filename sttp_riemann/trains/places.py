"""Where a convolution's kernel meets its input: strides, dilations and padding, as far as operator norms need them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

WRAPS = 3
"""How often circular and reflecting padding show one value at most: torch pads either side by less than a whole map."""


class Meeting(NamedTuple):
    """One dimension of a convolution.

    Attributes
    ----------
    fold : int
        Taps next to each other that no value of the input meets in turn: each reads a phase of its own.
    copies : int
        How often padding shows one value at most.
    """

    fold: int
    copies: int


@dataclass(frozen=True)
class Places:
    """A convolution without its numbers; a transposed one is the adjoint of that with the same kernel.

    Attributes
    ----------
    kernel, stride, dilation : tuple of int
        One number a dimension.
    pads : tuple of tuple of int
        Before and after, a dimension; only where `mode` is not zeros.
    mode : {"zeros", "circular", "reflect", "replicate"}
        What padding shows.
    groups : int
        Channels in blocks of their own.
    transposed : bool
        Whether input and output change places.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    mode: str
    groups: int
    transposed: bool

    @property
    def pointwise(self) -> bool:
        """Whether it applies one matrix to the channels of each place, and no place is shown twice."""
        return self.groups == 1 and set(self.kernel) == {1} and all(m.copies == 1 for m in self.meetings())

    def meetings(self, size: Sequence[int] | None = None) -> list[Meeting]:
        """What happens in each dimension.

        Parameters
        ----------
        size : sequence of int, optional
            Of the maps that the convolution reads; of any size without it.

        Returns
        -------
        list of Meeting
            The norm of the convolution is at most that of the folded kernel on an infinite grid, times the root of
            the product of the copies.

        Notes
        -----
        On an infinite grid, y(m) = sum_j K(j) x(t m + d j). With g = gcd(t, d) and j = j0 + (t / g) i, position
        t m + d j is in the phase d j0 modulo t of x, and moves by d / g in it as i grows. So the convolution is one of
        stride 1 that reads t / g phases as channels, with the taps j0 + (t / g) i of the j0-th. Its norm depends
        neither on shifts of the phases, which are isometries, nor on the step d / g, which only permutes frequencies.

        Zeros around a map, and reading part of the result, restrict that operator, which cannot raise its norm. Other
        padding first repeats values: a map of the norm sqrt(copies). Where circular padding gives no more outputs than
        there are places, they are those of a periodic grid, whose frequencies are among those of the infinite one, if
        the stride divides the map. If it may not, two outputs at the seam can be closer than the stride: then they are
        some of those of stride 1, or values are shown three times, whichever bounds better.
        """
        sizes = [None] * len(self.kernel) if size is None else size
        rows = zip(self.kernel, self.stride, self.dilation, self.pads, sizes, strict=True)
        return [self._meeting(*row) for row in rows]

    def _meeting(self, taps: int, stride: int, dilation: int, pads: tuple[int, int], size: int | None) -> Meeting:
        fold = min(stride // math.gcd(stride, dilation), taps)
        if self.mode == "zeros" or sum(pads) == 0:
            return Meeting(fold, 1)
        if self.mode == "replicate":
            return Meeting(fold, 1 + sum(pads))
        if self.mode == "reflect" or sum(pads) > dilation * (taps - 1):
            return Meeting(fold, WRAPS)
        if stride == 1 or (size is not None and size % stride == 0):
            return Meeting(fold, 1)
        return Meeting(1, 1) if fold <= WRAPS else Meeting(fold, WRAPS)


def folded(kernel: Tensor, folds: Sequence[int]) -> Tensor:
    """Read the phases of a convolution's input as channels.

    Parameters
    ----------
    kernel : Tensor
        (..., C_out, C_in, taps).
    folds : sequence of int
        One a dimension of the taps, as `Places.meetings` gives them.

    Returns
    -------
    Tensor
        (..., C_out, C_in * folds, fewer taps).

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.trains.places import folded
    >>> folded(torch.arange(5.0).view(1, 1, 5), (2,)).tolist()
    [[[0.0, 2.0, 4.0], [1.0, 3.0, 0.0]]]
    """
    space = len(folds)
    for axis, fold in zip(range(kernel.dim() - space, kernel.dim()), folds, strict=True):
        if fold == 1:
            continue
        taps = kernel.shape[axis]
        count = -(-taps // fold)
        missing = list(kernel.shape)
        missing[axis] = count * fold - taps
        whole = torch.cat([kernel, kernel.new_zeros(missing)], axis)
        split = whole.unflatten(axis, (count, fold)).movedim(axis + 1, kernel.dim() - space)
        kernel = split.flatten(kernel.dim() - space - 1, kernel.dim() - space)
    return kernel
