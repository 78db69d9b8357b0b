"""Riemannian gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geoopt
import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.angle import shortened
from sttp_riemann.optim.arguments import CheckedGroups, as_list, checked_options
from sttp_riemann.optim.points import Points, move, projected
from sttp_riemann.optim.stepping import FrameStepper


class RiemannianSGD(FrameStepper, CheckedGroups, geoopt.optim.RiemannianSGD):
    """Gradient descent with momentum for models whose parameters are partly frames.

    Parameters
    ----------
    params : iterable
        Parameters or parameter groups; a frame is a `geoopt.ManifoldParameter`.
    lr : float
        Learning rate.
    momentum, dampening : float
        As in `torch.optim.SGD`, which steps plain parameters.
    weight_decay : float
        L2 penalty on plain parameters.
    nesterov : bool
        Nesterov's momentum.
    maximize : bool
        Ascend instead of descend.
    foreach, fused : bool, optional
        Passed on to torch for plain parameters; at most one of them may be set.
    max_angle : float, optional
        Largest angle of a step, as in `RiemannianAdam`.

    Raises
    ------
    TypeError
        If `params` are not parameters.
    ValueError
        If an option has the wrong type or is out of range, a parameter is not a leaf or is in two groups, or a point of
        another manifold than `PolarStiefel` is to have a largest angle.

    Notes
    -----
    Bonnabel 2013; momentum is transported by projection to the new tangent space.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4)
    >>> optimizer = sr.RiemannianSGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> before = model(torch.ones(16)).square().sum()
    >>> before.backward()
    >>> optimizer.step()
    >>> bool(model(torch.ones(16)).square().sum() < before), sr.orthogonality_error(model) < 1e-5
    (True, True)
    """

    plain_kind = torch.optim.SGD
    needed = ()

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        max_angle: float | None = None,
    ) -> None:
        given = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        given = checked_options({**given, "nesterov": nesterov})
        if given["nesterov"] and (given["momentum"] == 0 or given["dampening"] != 0):
            raise ValueError("nesterov needs a momentum above 0 and no dampening")
        options = {"maximize": maximize, "foreach": foreach, "fused": fused, "max_angle": max_angle}
        options = checked_options(options)
        super().__init__(as_list(params), **given)
        self._complete(options)

    @override
    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        manifold, x, group = points.manifold, points.x, points.group
        momentum, rate = group["momentum"], torch.full((), -group["lr"], dtype=x.dtype, device=x.device)
        tangent = projected(manifold, x, gradient, room)
        if not momentum:
            move(manifold, x, tangent, shortened(tangent, rate, group["max_angle"]), None)
            return
        if "momentum_buffer" in kept:
            buffer = kept["momentum_buffer"].mul_(momentum).add_(tangent, alpha=1 - group["dampening"])
        else:
            buffer = kept["momentum_buffer"] = tangent.clone()
        direction = tangent.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        move(manifold, x, direction, shortened(direction, rate, group["max_angle"]), buffer)
