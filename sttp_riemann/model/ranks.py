"""One rank per layer: from a number, a fraction, a mapping by layer name, or a budget for the whole network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from numbers import Integral, Real

import torch
from torch import Tensor

from sttp_riemann.checks import check_mapping, check_number, shown
from sttp_riemann.model.weights import matching
from sttp_riemann.trains.shape import KernelModes, LayerShape, Method, layer_shape

Rank = int | float
Ranks = Rank | Mapping[str, Rank]
FALLBACK = "*"
BUDGET, TINIEST = "a share of the network's numbers, above 0 and at most 1", 5e-324


@dataclass(frozen=True)
class Dimensions:
    """What determines the shape of a layer, apart from its rank.

    Attributes
    ----------
    d_out : int
        Rows of W.
    d_in : tuple of int
        Its columns, as input channels and then kernel sizes.
    method : {"sttp", "svdp"}
        As in `sttp_riemann.trains.shape.layer_shape`.
    identity_spectrum : bool
        As there.
    kernel_modes : {"flat", "prime"}
        As there.
    """

    d_out: int
    d_in: tuple[int, ...]
    method: Method
    identity_spectrum: bool
    kernel_modes: KernelModes

    @property
    def numbers(self) -> int:
        """Elements of W."""
        return self.d_out * math.prod(self.d_in)

    @property
    def full(self) -> int:
        """Smallest rank that can represent every W; for a tensor train, that of its widest bond."""
        return max(self.shape(self.numbers).ranks)

    def shape(self, rank: int) -> LayerShape:
        """Shape of the layer at a rank.

        Parameters
        ----------
        rank : int
            Upper bound of every TT-rank.

        Returns
        -------
        LayerShape
            As `sttp_riemann.trains.shape.layer_shape` gives it.

        Raises
        ------
        ValueError
            If the rank is below 1.
        """
        return layer_shape(self.d_out, self.d_in, rank, self.method, self.identity_spectrum, self.kernel_modes)


def given_ranks(layers: Mapping[str, Dimensions], rank: Ranks, done: Sequence[str] = ()) -> dict[str, int]:
    """Rank of every layer from the `rank` argument.

    Parameters
    ----------
    layers : mapping
        Layer name to dimensions.
    rank : int, float or mapping
        A rank; a fraction in (0, 1] of each layer's full rank, which truncates nothing; or a mapping to either from
        layer names, names of modules that contain layers, or patterns. The first match wins; ``"*"`` stands for the
        layers that nothing else matches.
    done : sequence of str
        Layers that are reparameterized already.

    Returns
    -------
    dict[str, int]
        Layer name to rank.

    Raises
    ------
    ValueError
        A rank is out of range, a name matches no layer or one that is reparameterized already, or a layer is left
        without a rank.

    Examples
    --------
    >>> from sttp_riemann.model.ranks import Dimensions, given_ranks
    >>> layers = {
    ...     "conv": Dimensions(8, (4, 3, 3), "sttp", identity_spectrum=False, kernel_modes="flat"),
    ...     "head": Dimensions(10, (64,), "sttp", identity_spectrum=False, kernel_modes="flat"),
    ... }
    >>> given_ranks(layers, {"conv": 4, "*": 0.5})
    {'conv': 4, 'head': 10}
    """
    if not isinstance(rank, Mapping):
        return {name: _rank_of(dimensions, rank) for name, dimensions in layers.items()}
    found: dict[str, int] = {}
    for pattern, value in check_mapping("rank", rank, "a mapping from names of layers to ranks").items():
        if pattern in done:
            raise ValueError(f"rank names layer {pattern!r}, which is reparameterized already; call decompress first")
        names = matching("rank", pattern, list(layers)) if pattern != FALLBACK else []
        found = {**{name: _rank_of(layers[name], value) for name in names}, **found}
    left = [name for name in layers if name not in found]
    if left and FALLBACK not in rank:
        raise ValueError(f"rank names no rank for layer {left[0]!r}; add a pattern for it, or '*' for all others")
    return {name: found[name] if name in found else _rank_of(layers[name], rank[FALLBACK]) for name in layers}


def budget_ranks(
    layers: Mapping[str, Dimensions],
    budget: float,
    other: int,
    weights: Mapping[str, Tensor] | None = None,
    lost: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, int]:
    """Ranks that keep a network within a share of its dense numbers.

    Parameters
    ----------
    layers : mapping
        Layer name to dimensions.
    budget : float
        Largest share, in (0, 1]: 100 times it is the largest `Compression.ratio`.
    other : int
        Numbers of the network apart from the layers' weights.
    weights : mapping, optional
        Layer name to matrix (d_out, d_in). With them, ranks go where each number keeps most of the weights' energy,
        relative to each layer's own; without, all layers get about the same share of their numbers.
    lost : mapping, optional
        Instead of weights: layer name to the share of its energy that is lost at rank 1, 2, ..; no rank is larger than
        their number.

    Returns
    -------
    dict[str, int]
        Layer name to rank.

    Raises
    ------
    ValueError
        The budget is out of range or too small for rank 1 everywhere, or a weight is not finite.

    Notes
    -----
    Greedy along the lower convex hull of lost energy over numbers, which is the optimum of the Lagrangian. The step
    that exceeds the budget is taken as far as it fits; the rest goes to the next best step.

    Examples
    --------
    >>> from sttp_riemann.model.ranks import Dimensions, budget_ranks
    >>> conv = Dimensions(8, (4, 3, 3), "sttp", identity_spectrum=False, kernel_modes="flat")
    >>> ranks = budget_ranks({"conv": conv}, budget=0.5, other=8)
    >>> ranks, conv.shape(ranks["conv"]).dof(learned_spectrum=True) + 8 <= 0.5 * (conv.numbers + 8)
    ({'conv': 6}, True)
    """
    budget = check_number("budget", budget, BUDGET, least=TINIEST, most=1)
    sizes = {name: _sizes(dimensions) for name, dimensions in layers.items()}
    dense = sum(dimensions.numbers for dimensions in layers.values()) + other
    _check_possible(budget, sum(size[0] for size in sizes.values()) + other, dense)
    if weights is not None:
        lost = {name: _lost_energy(name, dimensions, weights[name]) for name, dimensions in layers.items()}
    if lost is None:
        steps = [step for name, dimensions in layers.items() for step in _share_steps(name, dimensions)]
    else:
        sizes = {name: size[: len(lost[name])] for name, size in sizes.items()}
        steps = [step for name in layers for step in _hull_steps(name, sizes[name], lost[name])]
    return _spend(sorted(steps), sizes, budget * dense - other)


def even_losses(dimensions: Dimensions) -> list[float]:
    """Share of its energy that a layer loses at rank 1, 2, .. full, were all singular values of each bond equal.

    Parameters
    ----------
    dimensions : Dimensions
        Of the layer.

    Returns
    -------
    list of float
        Summed over the bonds, as `budget_ranks` takes it.
    """
    full = dimensions.shape(dimensions.numbers).ranks
    return [
        sum(1 - own / most for own, most in zip(dimensions.shape(rank).ranks, full, strict=True))
        for rank in range(1, dimensions.full + 1)
    ]


def _rank_of(dimensions: Dimensions, rank: Rank) -> int:
    if isinstance(rank, Integral) and not isinstance(rank, bool) and rank >= 1:
        return int(rank)
    if isinstance(rank, Real) and not isinstance(rank, Integral) and 0 < rank <= 1:
        return max(1, round(float(rank) * dimensions.full))
    raise ValueError(
        f"rank must be a whole number of at least 1, got {shown(rank)}; or a fraction of the full rank, above 0, at "
        "most 1.0"
    )


def _check_possible(budget: float, smallest: int, dense: int) -> None:
    if smallest > budget * dense:
        # Rounded up, so that the suggested budget works
        least = math.ceil(10**4 * smallest / dense) / 10**4
        raise ValueError(
            f"budget {budget:g} is too small: at rank 1 everywhere the network still has {smallest:,} of its "
            f"{dense:,} numbers; set budget to at least {least:g}"
        )


@lru_cache(maxsize=256)
def _sizes(dimensions: Dimensions) -> tuple[int, ...]:
    """Degrees of freedom at rank 1, 2, .. full."""
    learned = not dimensions.identity_spectrum
    return tuple(dimensions.shape(rank).dof(learned) for rank in range(1, dimensions.full + 1))


Step = tuple[float, str, int]
"""Priority of a step, its layer, and the rank that it reaches."""


def _spend(steps: Iterable[Step], sizes: Mapping[str, Sequence[int]], limit: float) -> dict[str, int]:
    """From rank 1, take the steps in order, each as far as it fits."""
    ranks = dict.fromkeys(sizes, 1)
    left = limit - sum(size[0] for size in sizes.values())
    for _, name, goal in steps:
        size, now = sizes[name], ranks[name]
        fitting = (rank for rank in range(goal, now, -1) if size[rank - 1] - size[now - 1] <= left)
        ranks[name] = next(fitting, now)
        left -= size[ranks[name] - 1] - size[now - 1]
    return ranks


def _lost_energy(name: str, dimensions: Dimensions, weight: Tensor) -> list[float]:
    """Upper bound on the share of a weight's energy lost at rank 1, 2, .. full: the tails of all bonds of the chain."""
    if not torch.isfinite(weight).all():
        raise ValueError(f"the weight of layer {name!r} holds NaN or infinite values; fix it, or exclude it")
    matrix, modes = weight.detach().double(), dimensions.shape(dimensions.full).modes
    lost = matrix.new_zeros(dimensions.full)
    for cut in range(1, len(modes)):
        unfolded = matrix.reshape(math.prod(modes[:cut]), -1)
        short = unfolded if unfolded.shape[0] <= unfolded.shape[1] else unfolded.mT
        # Energies follow from the Gram matrix, which is much cheaper than an SVD
        energies = torch.linalg.eigvalsh(short @ short.mT).clamp_min(0).flip(0)
        tails = energies.flip(0).cumsum(0).flip(0)[1 : dimensions.full + 1]
        lost[: len(tails)] += tails
    total = float(matrix.square().sum())
    return (lost / total).tolist() if total else lost.tolist()


def _share_steps(name: str, dimensions: Dimensions) -> list[Step]:
    """Steps through all ranks, ordered by the share of the layer's numbers that they reach."""
    return [(size / dimensions.numbers, name, rank) for rank, size in enumerate(_sizes(dimensions), 1)]


def _hull_steps(name: str, sizes: Sequence[int], lost: Sequence[float]) -> list[Step]:
    """Steps from vertex to vertex of the lower convex hull, from rank 1 to full rank."""
    slope = partial(_slope, sizes=sizes, lost=lost)
    corners = [1]
    for rank in range(2, len(sizes) + 1):
        while len(corners) > 1 and slope(corners[-1], rank) <= slope(*corners[-2:]):
            corners.pop()
        corners.append(rank)
    return [(slope(*step), name, step[1]) for step in pairwise(corners)]


def _slope(below: int, above: int, sizes: Sequence[int], lost: Sequence[float]) -> float:
    """Slope of lost energy over numbers; the steepest descent is the smallest."""
    more = sizes[above - 1] - sizes[below - 1]
    # With an identity spectrum a higher rank can have fewer numbers
    return (lost[above - 1] - lost[below - 1]) / more if more > 0 else -math.inf
