"""Riemannian Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import geoopt
import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.angle import shortened
from sttp_riemann.optim.arguments import CheckedGroups, as_list, checked_options
from sttp_riemann.optim.moments import DEFAULT, moment_of
from sttp_riemann.optim.points import Points, move, projected
from sttp_riemann.optim.stepping import FrameStepper
from sttp_riemann.optim.verdict import waits


class RiemannianAdam(FrameStepper, CheckedGroups, geoopt.optim.RiemannianAdam):
    """Adam for models whose parameters are partly frames.

    A frame has a first moment in the tangent space and a second moment that commutes with gauge moves;
    `torch.optim.Adam` itself steps plain parameters.

    Parameters
    ----------
    params : iterable
        Parameters or parameter groups; a frame is a `geoopt.ManifoldParameter`.
    lr : float
        Learning rate.
    betas : tuple of float
        Decay rates of the two moments.
    eps : float
        Added to the denominator.
    weight_decay : float
        Of plain parameters. Frames have constant norm and get none.
    amsgrad : bool
        Divide by the running maximum of the second moment.
    maximize : bool
        Ascend instead of descend.
    foreach, fused : bool, optional
        Passed on to torch for plain parameters; at most one of them may be set. With ``fused=True`` a step on an
        accelerator does not wait for the device; see `step`.
    match_adam : bool
        Scale a frame's step so that its root mean square entry is about `lr`, as in Adam. Otherwise the Frobenius norm
        of a step is about `lr`, as in geoopt: a step sqrt(n r) times shorter.
    moment : {"matrix", "polar", "cores"}, optional
        What becomes of a frame's momentum. "matrix" divides it by one second moment a matrix, as geoopt does. "polar"
        makes its singular values equal, as Muon does, and keeps the length. "cores" divides each entry by its own
        second moment, as SOAP does, in the eigenbases of the gradients' Gram moments over the rank indices of a core.
        None: "cores" for frames on `PolarStiefel`, "matrix" for points of other manifolds.
    decoupled_weight_decay : bool
        Shrink plain parameters by ``lr * weight_decay`` as `torch.optim.AdamW` does, instead of an L2 penalty.
    max_angle : float, optional
        In radians, below pi / 2: no step turns the span of a frame by a larger principal angle. A step whose largest
        singular value exceeds ``tan(max_angle)`` is shortened to it.

    Raises
    ------
    TypeError
        If `params` are not parameters.
    ValueError
        If an option has the wrong type or is out of range, a parameter is not a leaf or is in two groups, a point of
        another manifold than `PolarStiefel` has the moment "polar" or "cores" or a largest angle, or torch's Adam has
        no decoupled weight decay.

    Notes
    -----
    Becigneul and Ganea 2019; the retraction is that of each parameter's manifold. Each moment is described by its class
    in `sttp_riemann.optim.moments`.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4)
    >>> optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    >>> inputs, targets, losses = torch.eye(16), torch.ones(16, 8), []
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     losses.append((model(inputs) - targets).square().mean())
    ...     losses[-1].backward()
    ...     optimizer.step()
    >>> bool(losses[-1] < losses[0]), sr.orthogonality_error(model) < 1e-5
    (True, True)
    """

    plain_kind = torch.optim.Adam
    sorted_by = ("moment",)
    needed = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        match_adam: bool = True,
        moment: str | None = None,
        decoupled_weight_decay: bool = False,
        max_angle: float | None = None,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        options = checked_options({**options, "maximize": maximize, "foreach": foreach, "fused": fused})
        ours = {"match_adam": match_adam, "moment": moment, "max_angle": max_angle}
        # Not given to torch's class: to a scaler of gradients it would promise that the step itself undoes the scale
        ours = checked_options(
            {**ours, "fused": options.pop("fused"), "decoupled_weight_decay": decoupled_weight_decay}
        )
        # torch gives every group that option where it knows it
        if ours["decoupled_weight_decay"]:
            options["decoupled_weight_decay"] = True
        super().__init__(as_list(params), **options)
        self._complete(ours)

    @override
    def _shapes(self, frame: geoopt.ManifoldParameter, group: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        return moment_of(group, frame.manifold).shapes(frame.shape, frame.manifold)

    @override
    def _apart(self, manifold: Any, group: dict[str, Any]) -> tuple[Any, ...]:
        by_core = moment_of(group, manifold).by_core
        return (manifold.outer,) if by_core else ()

    @override
    def _check(self, stacks: Sequence[Any]) -> Tensor | None:
        for stack in stacks:
            kept = stack.states[0].keys() - {"step", "max_exp_avg_sq"}
            if kept and kept != {"exp_avg", *self._shapes(stack.points[0], stack.group)}:
                raise ValueError(
                    f"moment {stack.group['moment'] or DEFAULT!r} has no use for what steps with another one have "
                    "kept; nothing was changed: make the optimizer anew"
                )
        return super()._check(stacks)

    @override
    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        manifold, x, group = points.manifold, points.x, points.group
        tangent = projected(manifold, x, gradient, room)
        moment = moment_of(group, manifold)
        direction, scale, carried = moment.direct(points, tangent, kept)
        scale = shortened(direction, scale, group["max_angle"])
        longest = moment.longest(points) if waits(x.device) else math.inf
        move(manifold, x, direction, scale, carried, tangent, longest)
