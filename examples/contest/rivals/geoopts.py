"""geoopt's own Riemannian Adam and SGD, with each of its retractions of the Stiefel manifold.

``EuclideanStiefel`` retracts by QR, ``CanonicalStiefel`` by the Cayley transform, ``EuclideanStiefelExact`` along the
exponential map. geoopt steps other parameters, too: as Adam does, and as SGD does, except that momentum begins with the
first gradient and adds it once more. On a frame its Adam takes steps of Frobenius length about ``lr``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import geoopt
from torch import Tensor
from torch.optim import Optimizer


class GeooptAdam(geoopt.optim.RiemannianAdam):
    """geoopt's Riemannian Adam, with what a run needs to store and resume it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # torch makes these tensors of float32, in which the bias corrections would differ from those before
        for kept in self.state.values():
            if "step" in kept:
                kept["step"] = int(kept["step"])

    def state_shapes(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of what it keeps: second moments fill a matrix also where they are one number."""
        return {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}


class GeooptSGD(geoopt.optim.RiemannianSGD):
    """geoopt's Riemannian SGD, with what a run needs to store and resume it.

    Notes
    -----
    In geoopt 0.5.1 momentum begins with the Euclidean gradient, so a first step with momentum is not tangent. Frames
    leave the manifold there where the retraction is the exponential map, which does not repair it.
    """

    def state_shapes(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of what it keeps: momentum, and no count of steps."""
        return {"momentum_buffer": parameter.shape} if group["momentum"] else {}


def on(manifold: type[geoopt.Stiefel], kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """Maker of an optimizer that moves frames to a manifold of geoopt's first.

    Parameters
    ----------
    manifold : type
        One of geoopt's Stiefel manifolds.
    kind : type
        `GeooptAdam` or `GeooptSGD`.

    Returns
    -------
    callable
        From parameters and options to the optimizer.
    """

    def make(params: Iterable[Any], *, decoupled_weight_decay: bool = False, **options: Any) -> Optimizer:
        if decoupled_weight_decay:
            raise ValueError("geoopt's optimizers know no decoupled_weight_decay")
        own = list(params)
        for parameter in own:
            if isinstance(parameter, geoopt.ManifoldParameter):
                parameter.manifold = manifold()
        return kind(own, **options)

    return make
