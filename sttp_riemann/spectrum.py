"""Spectra of all layers in one parameter, and penalties on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

SpectrumKind = Literal["identity", "learned", "free"]
SPECTRA = ("identity", "learned", "free")
TIED = 1e-4
"""Relative distance up to which values count as equally large in the gradient of their maximum."""


class Spectra(nn.Module):
    """The values s of every layer.

    Parameters
    ----------
    ranks : sequence of int
        Number of values of each layer.
    kind : {"identity", "learned", "free"}
        s = bound; s = bound * S / max|S|; or s = S with no bound.
    bounds : Tensor
        (L,) largest singular value of each layer; unused by a free spectrum.

    Attributes
    ----------
    S : Parameter or None
        All layers' values, one after the other, (sum of ranks,); starts at ones.

    Notes
    -----
    Obukhov et al. 2021, Section 4: "C", "L"; a bound other than 1 and the free spectrum are ours.
    """

    position: Tensor
    bound: Tensor

    def __init__(self, ranks: Sequence[int], kind: SpectrumKind, bounds: Tensor) -> None:
        super().__init__()
        self.kind, self.ranks, self.width = kind, tuple(ranks), max(ranks)
        self.S = nn.Parameter(torch.ones(sum(ranks), dtype=bounds.dtype)) if kind != "identity" else None
        self.register_buffer("bound", bounds)
        # Layers are rows of one padded matrix while they are computed with, and without padding while they are kept.
        rows = [torch.arange(rank) + row * self.width for row, rank in enumerate(ranks)]
        self.register_buffer("position", torch.cat(rows), persistent=False)

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything the values are computed from.

        Returns
        -------
        tuple of Tensor
            Bounds (L,), and S where the spectrum is trained.
        """
        return (self.bound,) if self.S is None else (self.bound, self.S)

    def materialize(self, bound: Tensor, values: Tensor | None = None) -> Tensor:
        """Compute the values of all layers as a differentiable function of tensors.

        Parameters
        ----------
        bound : Tensor
            (L,), largest singular values.
        values : Tensor, optional
            (sum of ranks,), shaped as S; None for an identity spectrum.

        Returns
        -------
        Tensor
            (L, largest rank), zero where a layer has fewer.
        """
        ones = values if values is not None else bound.new_ones(len(self.position))
        padded = bound.new_zeros(len(self.ranks) * self.width).index_copy(0, self.position, ones)
        padded = padded.view(len(self.ranks), self.width)
        if self.kind == "free":
            return padded
        if self.kind == "learned":
            padded = padded / _largest(padded.abs())
        return padded * bound.unsqueeze(1)

    def values(self) -> tuple[Tensor, ...]:
        """Values of each layer, differentiable, in the order they are kept in.

        Returns
        -------
        tuple of Tensor
            One (rank,) a layer.
        """
        padded = self.materialize(*self.tensors())
        return tuple(row[:rank] for row, rank in zip(padded, self.ranks, strict=True))

    @torch.no_grad()
    def assign_(self, values: Sequence[Tensor]) -> None:
        """Hold other values from now on; a learned spectrum keeps them up to their largest.

        Parameters
        ----------
        values : sequence of Tensor
            One (rank,) a layer. An identity spectrum stays as it is.
        """
        if self.S is not None:
            self.S.copy_(torch.cat([v.to(self.S) for v in values]))


def _largest(sizes: Tensor) -> Tensor:
    """Largest of each row (L, 1), its gradient shared evenly by all that come within `TIED` of it.

    Values start equal, and a step of Adam moves them all by the same length: the gradient of the maximum alone would
    go to whichever rounding makes the largest, so that machines, or numbers of processes, would part at once.
    """
    largest = sizes.detach().amax(1, keepdim=True)
    tied = sizes.detach() >= (1 - TIED) * largest
    shared = (sizes * tied).sum(1, keepdim=True) / tied.sum(1, keepdim=True)
    return largest * (shared / shared.detach())


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
    >>> from sttp_riemann.spectrum import PENALTIES
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
    >>> from sttp_riemann.spectrum import PENALTIES
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
