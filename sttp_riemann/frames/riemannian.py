"""Frames held directly as points of the Stiefel manifold (geoopt), with a retraction that commutes with the gauge."""

from __future__ import annotations

import geoopt
import torch
from geoopt.manifolds.stiefel import EuclideanStiefel
from torch import Tensor

from sttp_riemann.frames.bank import Bank
from sttp_riemann.frames.polar import nearest_frame, polar
from sttp_riemann.tt import Core


class PolarStiefel(EuclideanStiefel):
    """Stiefel manifold with the Euclidean metric and the polar retraction, in O(n r^2).

    QR based retractions depend on the basis of the frame: qf(X Q) is not qf(X) Q. The polar factor does not, so that
    fixing the gauge during training leaves the trajectory of the weight unchanged.
    """

    name = "Stiefel(polar)"
    reversible = False

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """Polar retraction (X + U) ((X + U)^T (X + U))^{-1/2}.

        The Gram matrix is computed, not taken as I + U^T U, so rounding errors of X do not build up.
        """
        return polar(x + u)

    expmap = retr

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Retraction, and the projection of `v` to the tangent space there."""
        y = self.retr(x, u)
        return y, self.proju(y, v)

    expmap_transp = retr_transp

    def transp_follow_retr(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Projection of `v` to the tangent space at ``retr(x, u)``."""
        return self.proju(self.retr(x, u), v)

    transp_follow_expmap = transp_follow_retr

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Orthogonal projection U - X sym(X^T U) to the tangent space at X."""
        xtu = x.mT @ u
        if x.ndim == 3 and u.shape == x.shape:
            return torch.baddbmm(u, x, xtu + xtu.mT, alpha=-0.5)
        return u - x @ ((xtu + xtu.mT) / 2)

    egrad2rgrad = proju

    def projx(self, x: Tensor) -> Tensor:
        """Nearest frame, by Newton-Schulz instead of an SVD, which can fail where singular values coincide."""
        return nearest_frame(x)


class RiemannianBank(Bank):
    """Frames as one batched `geoopt.ManifoldParameter` (B, rows, rank) on `PolarStiefel`."""

    canonical = False

    def __init__(self, frames: Tensor, reduced: bool) -> None:
        super().__init__()
        self.point = geoopt.ManifoldParameter(frames.clone(), manifold=PolarStiefel())

    @staticmethod
    def key(core: Core) -> str:
        """Shape alone: a core of St_U is trained as a point of St and brought back by gauge fixing."""
        return f"st_{core.rows}x{core.inner}"

    @staticmethod
    def numbers(core: Core) -> int:
        """Every entry of the frame."""
        return core.rows * core.inner

    def tensors(self) -> tuple[Tensor, ...]:
        """The point itself."""
        return (self.point,)

    def materialize(self, *tensors: Tensor) -> Tensor:
        """Return the point: frames are what is stored."""
        return tensors[0]

    @torch.no_grad()
    def assign_(self, frames: Tensor) -> None:
        """Copy the frames into the point."""
        self.point.copy_(frames)
