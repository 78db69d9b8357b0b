"""Frames stored as points of the Stiefel manifold (geoopt), with a retraction that commutes with gauge moves."""

from __future__ import annotations

import math

import geoopt
import torch
from geoopt.manifolds.stiefel import EuclideanStiefel
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.checks import check_flag, check_whole, shown
from sttp_riemann.frames.frame import Frames
from sttp_riemann.frames.polar import LONGEST, bounded_polar, long_polar, nearest_frame, short_polar
from sttp_riemann.trains.contraction import Pull
from sttp_riemann.trains.shape import Core


class PolarStiefel(EuclideanStiefel):
    """Stiefel manifold with the Euclidean metric and the polar retraction, in O(n r^2).

    QR-based retractions depend on the basis of the frame: qf(X Q) is not qf(X) Q. The polar factor does not, so fixing
    the gauge during training leaves the trajectory of the weight unchanged.

    Parameters
    ----------
    outer : int
        Outer rank of frames that are the cores of a tensor train (outer, mode, inner): their rows are its and the
        mode's. The geometry does not depend on it; optimizers that turn the rank indices of a core do.
    outer_first : bool
        Whether the rows run through the outer rank first, slowest, and not through the mode.

    Raises
    ------
    ValueError
        The outer rank is no whole number above 0, or `outer_first` neither True nor False.

    Notes
    -----
    Polar retraction: Absil, Mahony and Sepulchre 2008, "Optimization Algorithms on Matrix Manifolds", Section 4.1; the
    vector transport is the projection to the new tangent space, Section 8.1 there. The manifold of a
    `geoopt.ManifoldParameter` (..., n, r) with n >= r.

    Every method takes floating-point tensors (..., n, r) and raises a TypeError for anything else. The retractions and
    `projx` raise a ValueError for NaN and infinite entries.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann import PolarStiefel
    >>> manifold = PolarStiefel()
    >>> point = manifold.projx(torch.randn(5, 3, dtype=torch.float64))
    >>> step = manifold.proju(point, torch.randn(5, 3, dtype=torch.float64))
    >>> moved = manifold.retr(point, step)
    >>> torch.allclose(moved.mT @ moved, torch.eye(3, dtype=torch.float64))
    True
    """

    name = "Stiefel(polar)"
    reversible = False
    # Manifolds pickled by releases without these attributes have them, too
    outer = 1
    outer_first = True

    def __new__(cls, outer: int = 1, outer_first: bool = True) -> PolarStiefel:
        """Leave out geoopt's choice of a metric, which is an argument there."""
        manifold: PolarStiefel = super().__new__(cls)
        return manifold

    def __init__(self, outer: int = 1, outer_first: bool = True) -> None:
        super().__init__()
        self.outer = check_whole("outer", outer, "a whole number above 0")
        self.outer_first = check_flag("outer_first", outer_first)

    @override
    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """Polar retraction (X + U) ((X + U)^T (X + U))^{-1/2}.

        The Gram matrix is computed, not taken as I + U^T U, so rounding errors of X do not build up. A step of any
        length ends within 1e-6 of orthonormal in float32: long ones are summed and computed in float64.
        """
        _check(x, u=u)
        return _retracted(x, u)

    expmap = retr

    @override
    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Retract, and project `v` to the tangent space at the new point."""
        _check(x, u=u, v=v)
        y = _retracted(x, u)
        return y, _projected(y, v)

    expmap_transp = retr_transp

    @torch.no_grad()
    def move_(
        self,
        x: Tensor,
        direction: Tensor,
        scale: Tensor,
        carried: Tensor | None = None,
        room: Tensor | None = None,
        longest: float = math.inf,
    ) -> None:
        """Retract along ``scale * direction`` and transport `carried`, both in place.

        Same as `retr_transp`, but with fewer passes over memory, for the step of an optimizer.

        Parameters
        ----------
        x : Tensor
            (B, n, r), the points.
        direction : Tensor
            (B, n, r), tangent at `x`.
        scale : Tensor
            Broadcasts to `direction`.
        carried : Tensor, optional
            (B, n, r), projected to the tangent space where `x` ends; may be `direction`.
        room : Tensor, optional
            (B, n, r), scratch memory that is overwritten.
        longest : float
            Bound on the Frobenius norms of the steps, if that is known. Where it is small enough, nothing is read back
            from the device, and nothing is raised.

        Raises
        ------
        ValueError
            An entry is NaN or infinite; `x` is then unchanged.
        """
        moved = torch.addcmul(x, direction, scale, out=room)
        if longest <= LONGEST:
            bounded_polar(moved, longest, out=x)
        elif short_polar(moved, out=x) is None:
            x.copy_(long_polar(x.double().addcmul(direction.double(), scale.double()), x.dtype))
        if carried is not None:
            xtv = torch.bmm(x.mT, carried)
            carried.baddbmm_(x, xtv + xtv.mT, alpha=-0.5)

    @override
    def transp_follow_retr(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Projection of `v` to the tangent space at ``retr(x, u)``."""
        _check(x, u=u, v=v)
        return _projected(_retracted(x, u), v)

    transp_follow_expmap = transp_follow_retr

    @override
    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Orthogonal projection U - X sym(X^T U) to the tangent space at X.

        It also turns a Euclidean gradient into the Riemannian one (Absil et al. 2008, Section 3.6).
        """
        _check(x, u=u)
        return _projected(x, u)

    egrad2rgrad = proju

    @override
    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """Frobenius inner product of tangent vectors, the same at every point `x`."""
        _check(x, u=u, **({} if v is None else {"v": v}))
        keepdim = check_flag("keepdim", keepdim)
        if v is None:
            return torch.linalg.vector_norm(u, dim=(-2, -1), keepdim=keepdim).square()
        return (u * v).sum((-2, -1), keepdim=keepdim)

    @override
    def projx(self, x: Tensor) -> Tensor:
        """Nearest frame, by Newton-Schulz: an SVD can fail where singular values coincide."""
        _check(x)
        return nearest_frame(x)


def _check(x: Tensor, **vectors: Tensor) -> None:
    """Refuse points that are not stacks of tall matrices, and vectors that do not fit them."""
    if not (_dense(x) and x.ndim >= 2 and x.shape[-2] >= x.shape[-1]):
        raise TypeError(f"x must be a floating-point tensor (..., n, r) with n >= r, got {shown(x)}")
    for name, u in vectors.items():
        if not (_dense(u) and u.dtype == x.dtype and u.device == x.device and _fits(u.shape, x.shape)):
            raise TypeError(f"{name} must be a tensor like x, which is {shown(x)}; got {shown(u)}")


def _dense(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.layout == torch.strided and x.device.type != "meta"


def _fits(own: torch.Size, other: torch.Size) -> bool:
    if own == other:
        return True
    try:
        torch.broadcast_shapes(own[:-2], other[:-2])
    except RuntimeError:
        return False
    return len(own) >= 2 and own[-2:] == other[-2:]


def _retracted(x: Tensor, u: Tensor) -> Tensor:
    moved = x + u
    found = short_polar(moved)
    return long_polar(x.double() + u.double(), moved.dtype) if found is None else found


def _projected(x: Tensor, u: Tensor) -> Tensor:
    xtu = x.mT @ u
    if x.ndim == 3 and u.shape == x.shape:
        return torch.baddbmm(u, x, xtu + xtu.mT, alpha=-0.5)
    return u - x @ ((xtu + xtu.mT) / 2)


class RiemannianFrames(Frames):
    """Each frame is a `geoopt.ManifoldParameter` (rows, rank) on `PolarStiefel`; frames of St_U are trained in St."""

    canonical = False
    direct = True

    @staticmethod
    @override
    def key(core: Core) -> str:
        """The shape alone: a core of St_U is trained as a point of St and brought back by gauge fixing."""
        return f"{core.rows}x{core.inner}"

    @staticmethod
    @override
    def components(core: Core) -> int:
        return 1

    @staticmethod
    @override
    def numbers(core: Core) -> int:
        return core.rows * core.inner

    @override
    def hold(self, k: int, frame: Tensor) -> None:
        self.register_parameter(
            str(k),
            geoopt.ManifoldParameter(frame.clone(memory_format=torch.contiguous_format), manifold=self._manifold(k)),
        )

    def _manifold(self, k: int) -> PolarStiefel:
        return PolarStiefel(self.cores[k].outer, self.cores[k].outer_first)

    @override
    def tensors(self, k: int) -> tuple[Tensor, ...]:
        point = self._parameters.get(str(k))
        # Replicas of `nn.DataParallel` hold plain attributes instead of parameters
        return (getattr(self, str(k)) if point is None else point,)

    @staticmethod
    @override
    def materialize(core: Core, *stacks: Tensor) -> Tensor:
        return stacks[0]

    @staticmethod
    @override
    def trace(core: Core, *stacks: Tensor) -> tuple[Tensor, Pull]:
        return stacks[0], lambda grad: (grad,)

    @override
    @torch.no_grad()
    def assign_(self, k: int, frame: Tensor) -> None:
        self.tensors(k)[0].copy_(frame)

    @override
    def restore(self) -> None:
        """Make plain parameters manifold parameters again, in place: optimizers hold references to them."""
        for name, parameter in self._parameters.items():
            if type(parameter) is nn.Parameter:
                parameter.__class__ = geoopt.ManifoldParameter
                parameter.manifold = self._manifold(int(name))  # type: ignore[attr-defined]
