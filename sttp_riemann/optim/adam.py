"""Riemannian Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import geoopt
import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.optim.arguments import CheckedGroups, as_list, checked_options
from sttp_riemann.optim.stepping import FrameStepper, move, projected


class RiemannianAdam(FrameStepper, CheckedGroups, geoopt.optim.RiemannianAdam):
    """Adam for models whose parameters are partly frames.

    A frame has a first moment in the tangent space and one second moment per matrix; `torch.optim.Adam` itself steps
    plain parameters.

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
        L2 penalty on plain parameters. Frames have constant norm and get none.
    amsgrad : bool
        Divide by the running maximum of the second moment.
    maximize : bool
        Ascend instead of descend.
    foreach : bool, optional
        Passed on to torch for plain parameters.
    match_adam : bool
        Scale a frame's step so that its root mean square entry is about `lr`, as in Adam. Otherwise the Frobenius norm
        of a step is about `lr`, as in geoopt: a step sqrt(n r) times shorter.

    Raises
    ------
    TypeError
        If `params` are not parameters.
    ValueError
        If an option has the wrong type or is out of range, or a parameter is not a leaf or is in two groups.

    Notes
    -----
    Becigneul and Ganea 2019; the retraction is that of each parameter's manifold.

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
        match_adam: bool = True,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        options = checked_options({**options, "maximize": maximize, "foreach": foreach, "match_adam": match_adam})
        match_adam = bool(options.pop("match_adam"))
        super().__init__(as_list(params), **options)
        self.defaults["match_adam"] = match_adam
        for group in self.param_groups:
            group.setdefault("match_adam", match_adam)

    @override
    def _step_frames(
        self,
        manifold: Any,
        x: Tensor,
        gradient: Tensor,
        kept: dict[str, Tensor],
        step: int,
        group: dict[str, Any],
        room: Tensor | None,
    ) -> None:
        beta1, beta2 = group["betas"]
        tangent = projected(manifold, x, gradient, room)
        square = manifold.inner(x, tangent, keepdim=True)
        if "exp_avg" not in kept:
            kept.update(exp_avg=torch.zeros_like(tangent), exp_avg_sq=torch.zeros_like(square))
        first, second = kept["exp_avg"].lerp_(tangent, 1 - beta1), kept["exp_avg_sq"].lerp_(square, 1 - beta2)
        if group["amsgrad"]:
            largest = kept.setdefault("max_exp_avg_sq", torch.zeros_like(second))
            second = torch.maximum(largest, second, out=largest)
        entries = math.prod(x.shape[x.dim() - manifold.ndim :]) if group["match_adam"] else 1
        scale = (second / (entries * (1 - beta2**step))).sqrt_().add_(group["eps"]).reciprocal_()
        move(manifold, x, first, scale.mul_(-group["lr"] / (1 - beta1**step)), first, room=tangent)
