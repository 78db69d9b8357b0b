"""Tensor trains: modes, TT-ranks, degrees of freedom.

A layer's matrix W = U diag(s) V^T is one chain of modes cut at the spectrum. Everything left of the cut is a train of
cores that contracts to U, everything right of it to V. A plain orthonormal matrix (SVDP) is a train of one core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from torch import Tensor

Method = Literal["sttp", "svdp"]
KernelModes = Literal["flat", "prime"]
METHODS = ("sttp", "svdp")
KERNEL_MODES = ("flat", "prime")


def prime_factors(n: int) -> tuple[int, ...]:
    """Prime factors of `n`, ascending, with repetition; ``(1,)`` for 1.

    Parameters
    ----------
    n : int
        A dimension.

    Returns
    -------
    tuple of int
        Their product is `n`.

    Raises
    ------
    ValueError
        If `n` is not a positive integer.

    Examples
    --------
    >>> from sttp_riemann.trains.shape import prime_factors
    >>> prime_factors(60)
    (2, 2, 3, 5)
    """
    if n < 1:
        raise ValueError(f"a dimension must be a positive integer, got {n}")
    factors, divisor = [], 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            factors.append(divisor)
            n //= divisor
        divisor += 1
    if n > 1 or not factors:
        factors.append(n)
    return tuple(factors)


def bond_ranks(left: Sequence[int], right: Sequence[int], rank: int) -> tuple[int, ...]:
    """TT-ranks R_0 .. R_K of the chain ``left + right``: min(product to the left, product to the right, rank).

    Parameters
    ----------
    left, right : sequence of int
        Modes on either side of the spectrum.
    rank : int
        Upper bound r of every rank.

    Returns
    -------
    tuple of int
        One rank per bond, the two outer ones being 1; index ``len(left)`` is the bond of the spectrum.

    Notes
    -----
    Obukhov et al. 2021, Section 3.

    Examples
    --------
    >>> from sttp_riemann.trains.shape import bond_ranks
    >>> bond_ranks((2, 2, 2), (2, 2, 9), rank=6)
    (1, 2, 4, 6, 6, 6, 1)
    """
    modes = [*left, *right]
    return tuple(min(math.prod(modes[:k]), math.prod(modes[k:]), rank) for k in range(len(modes) + 1))


@dataclass(frozen=True)
class Core:
    """One TT core as a frame: its matricization has `rows` rows and `inner` orthonormal columns.

    Attributes
    ----------
    outer : int
        TT-rank on the side away from the spectrum.
    mode : int
        Size of the core's mode.
    inner : int
        TT-rank towards the spectrum.
    reduced : bool
        Whether the core lives in St_U (leading block upper triangular) rather than St.
    outer_first : bool
        Whether the rows run through the outer rank first, slowest, as left of the spectrum; right of it they run
        through the mode first.
    """

    outer: int
    mode: int
    inner: int
    reduced: bool
    outer_first: bool = True

    @property
    def rows(self) -> int:
        """Rows of the matricization, ``outer * mode``."""
        return self.outer * self.mode

    @property
    def dof(self) -> int:
        """Dimension of St_U(rows, inner) or St(rows, inner)."""
        if self.reduced:
            return (self.rows - self.inner) * self.inner
        return self.rows * self.inner - self.inner * (self.inner + 1) // 2


@dataclass(frozen=True)
class Train:
    """The shape of an orthonormal `dim` x `rank` matrix held as cores, listed from the outer end to the spectrum.

    A square St_U core is the identity and has no degree of freedom. Such cores occur only at the outer end; they are
    left out, and the first core kept has their product as its outer rank. A train without cores is the identity.

    Attributes
    ----------
    side : {"left", "right"}
        Side of the spectrum: a left train forms U, a right one V.
    dim : int
        Rows of the matrix.
    rank : int
        Its columns, the layer's rank.
    cores : tuple of Core
        From the outer end to the spectrum.
    """

    side: Literal["left", "right"]
    dim: int
    rank: int
    cores: tuple[Core, ...]

    @property
    def dof(self) -> int:
        """Sum of the cores' dimensions."""
        return sum(core.dof for core in self.cores)

    @property
    def contraction_cost(self) -> int:
        """Multiply-adds of contracting the cores, outer end first; none for a single core."""
        total, rows = 0, self.cores[0].rows if self.cores else 0
        for core in self.cores[1:]:
            total += rows * core.outer * core.mode * core.inner
            rows *= core.mode
        return total


@dataclass(frozen=True)
class LayerShape:
    """Where the cores of one layer live: W = U diag(s) V^T with U a `left` train and V a `right` train.

    Attributes
    ----------
    d_out, d_in : int
        Rows and columns of W.
    rank : int
        Number of singular values.
    left, right : Train
        Of U and of V.
    modes : tuple of int
        The chain, left to right, out modes and then in modes.
    ranks : tuple of int
        TT-ranks of its bonds, the outer ones being 1.

    Examples
    --------
    >>> from sttp_riemann.trains.shape import layer_shape
    >>> shape = layer_shape(8, (4, 3, 3), rank=6)
    >>> shape.modes, shape.ranks
    ((2, 2, 2, 2, 2, 9), (1, 2, 4, 6, 6, 6, 1))
    >>> [(core.rows, core.inner) for core in shape.right.cores]
    [(9, 6), (12, 6), (12, 6)]
    >>> shape.dof(learned_spectrum=True)
    138
    """

    d_out: int
    d_in: int
    rank: int
    left: Train
    right: Train
    modes: tuple[int, ...]
    ranks: tuple[int, ...]

    @property
    def contraction_cost(self) -> int:
        """Multiply-adds of contracting U and V from their cores, in the order of `contract`."""
        return self.left.contraction_cost + self.right.contraction_cost

    @property
    def saving(self) -> int:
        """Numbers, apart from activations, that training saves compared with the dense layer; may be negative.

        The dense layer holds W and its gradient; this one at most U and V as parameters, as frames, and both gradients.
        """
        return 2 * self.d_out * self.d_in - 4 * self.rank * (self.d_out + self.d_in)

    def dof(self, learned_spectrum: bool) -> int:
        """Degrees of freedom of W; a learned spectrum counts `rank` more.

        Parameters
        ----------
        learned_spectrum : bool
            Whether s is trained.

        Returns
        -------
        int
            Sum of the cores' dimensions, plus the number of trained singular values.

        Notes
        -----
        Obukhov et al. 2021.
        """
        return self.left.dof + self.right.dof + (self.rank if learned_spectrum else 0)


@lru_cache(maxsize=4096)
def layer_shape(
    d_out: int,
    d_in: Sequence[int],
    rank: int,
    method: Method = "sttp",
    identity_spectrum: bool = False,
    kernel_modes: KernelModes = "flat",
) -> LayerShape:
    """Arrange a layer's modes in one chain and determine the manifold of each core.

    Parameters
    ----------
    d_out : int
        Rows of W.
    d_in : tuple of int
        Columns of W: input channels, then the kernel sizes, if any.
    rank : int
        Upper bound of every TT-rank and of the layer's rank.
    method : {"sttp", "svdp"}
        Tensor trains of prime modes, or one core per side.
    identity_spectrum : bool
        With s = 1 the last core of U is in St_U too, as the gauge then passes through the spectrum.
    kernel_modes : {"flat", "prime"}
        All kernel positions as one mode, or the prime factors of each side of the kernel by itself, side after side.

    Returns
    -------
    LayerShape
        Cores that are the identity are left out.

    Raises
    ------
    ValueError
        If the rank is below 1, or `method` or `kernel_modes` is unknown.

    Notes
    -----
    Obukhov et al. 2021, Section 3. SVDP is the same chain with one mode per side.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {METHODS}")
    if kernel_modes not in KERNEL_MODES:
        raise ValueError(f"unknown kernel_modes {kernel_modes!r}; choose one of {KERNEL_MODES}")
    columns = math.prod(d_in)
    out_modes: tuple[int, ...] = (d_out,)
    in_modes: tuple[int, ...] = (columns,)
    if method == "sttp":
        positions = math.prod(d_in[1:])
        sides = (positions,) if kernel_modes == "flat" else tuple(n for side in d_in[1:] for n in prime_factors(side))
        out_modes = prime_factors(d_out)
        # A mode of size 1 is redundant, unless it is the whole dimension.
        in_modes = tuple(n for n in (*prime_factors(d_in[0]), *sides) if n > 1) or (1,)
    ranks = bond_ranks(out_modes, in_modes, rank)
    cut = len(out_modes)
    last_left = cut - 1
    left = [Core(ranks[k], n, ranks[k + 1], k != last_left or identity_spectrum) for k, n in enumerate(out_modes)]
    right = [Core(ranks[cut + k + 1], n, ranks[cut + k], k != 0, False) for k, n in enumerate(in_modes)]
    return LayerShape(
        d_out=d_out,
        d_in=columns,
        rank=ranks[cut],
        left=Train("left", d_out, ranks[cut], _without_identities(left)),
        right=Train("right", columns, ranks[cut], _without_identities(right[::-1])),
        modes=(*out_modes, *in_modes),
        ranks=ranks,
    )


def _without_identities(cores: Sequence[Core]) -> tuple[Core, ...]:
    return tuple(core for core in cores if not (core.reduced and core.rows == core.inner))


def absorb(move: Tensor, matrix: Tensor, outer_first: bool) -> Tensor:
    """Apply a map to the outer rank index of a matricized core.

    Parameters
    ----------
    move : Tensor
        (..., outer, new outer), square for a rotation; its transpose is applied.
    matrix : Tensor
        (..., rows, columns).
    outer_first : bool
        As `Core` has it.

    Returns
    -------
    Tensor
        (..., rows / outer * new outer, columns).
    """
    shape, (outer, new) = matrix.shape, move.shape[-2:]
    mode, wanted = shape[-2] // outer, (*shape[:-2], shape[-2] // outer * new, shape[-1])
    if outer_first:
        return (move.mT @ matrix.reshape(*shape[:-2], outer, mode * shape[-1])).reshape(wanted)
    split = matrix.reshape(*shape[:-2], mode, outer, shape[-1])
    return (move.mT.unsqueeze(-3) @ split).reshape(wanted)
