"""Initialization of a layer's cores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.gauge import Chain, first_rows, fix_gauge
from sttp_riemann.trains.shape import Core, LayerShape
from sttp_riemann.trains.svd import tt_svd

NOISE = 1e-4


@dataclass
class LayerCores:
    """Matricized cores (rows, inner) of one layer, from the outer ends to the spectrum, and the singular values."""

    left: list[Tensor]
    spectrum: Tensor
    right: list[Tensor]

    def contracted(self, shape: LayerShape) -> tuple[Tensor, Tensor]:
        """U (d_out, rank) and V (d_in, rank).

        Parameters
        ----------
        shape : LayerShape
            Of the layer.

        Returns
        -------
        tuple of Tensor
        """
        left, right = (
            contract(train, [core.unsqueeze(0) for core in own], like=self.spectrum)[0]
            for train, own in ((shape.left, self.left), (shape.right, self.right))
        )
        return left, right

    def fix_gauge(self, shape: LayerShape, pivots: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Bring the cores of a layer of this shape into St_U where they belong there, in place.

        Parameters
        ----------
        shape : LayerShape
            Of the layer.
        pivots : bool
            Whether to choose the rows that lead; otherwise the first ones do.

        Returns
        -------
        tuple of list of Tensor
            Of the cores left and right, rows in the order in which they lead.
        """
        device = self.spectrum.device
        orders = first_rows(shape.left.cores, device), first_rows(shape.right.cores, device)
        sides = [[core] for core in self.left], [[core] for core in self.right]
        fix_gauge([Chain(shape, *sides, orders, math.inf) if pivots else Chain(shape, *sides)])
        return orders


def identity(core: Core, generator: torch.Generator) -> Tensor:
    """Leading columns of the identity matrix."""
    return torch.eye(core.rows, core.inner, dtype=torch.float64, device="cpu")


def noisy_identity(core: Core, generator: torch.Generator) -> Tensor:
    """Q factor of I + 1e-4 N with N standard normal (Obukhov et al. 2021, Section 5)."""
    noise = torch.randn(core.rows, core.inner, dtype=torch.float64, device="cpu", generator=generator)
    return _orthonormalized(identity(core, generator) + NOISE * noise)


def orthogonal(core: Core, generator: torch.Generator) -> Tensor:
    """Uniform (Haar) on the Stiefel manifold."""
    return _orthonormalized(torch.randn(core.rows, core.inner, dtype=torch.float64, device="cpu", generator=generator))


def _orthonormalized(matrix: Tensor) -> Tensor:
    q, r = torch.linalg.qr(matrix)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)


FRAME_INITS: dict[str, Callable[[Core, torch.Generator], Tensor]] = {
    "noisy_identity": noisy_identity,
    "orthogonal": orthogonal,
    "identity": identity,
}
INITS = (*FRAME_INITS, "dense")


def draw(shape: LayerShape, init: str, generator: torch.Generator) -> LayerCores:
    """Cores independent of the previous weight, and a spectrum of ones."""
    core_of = FRAME_INITS[init]
    left = [core_of(core, generator) for core in shape.left.cores]
    right = [core_of(core, generator) for core in shape.right.cores]
    return LayerCores(left, torch.ones(shape.rank, dtype=torch.float64, device="cpu"), right)


def from_weight(shape: LayerShape, matrix: Tensor, root: Tensor | None = None) -> LayerCores:
    """Cores of the layer's present matrix; see `sttp_riemann.trains.svd.tt_svd`."""
    return LayerCores(*tt_svd(matrix.detach().cpu(), shape, root))
