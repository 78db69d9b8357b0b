"""Riemannian optimizers: frames are stepped bank by bank on their manifold, everything else as torch does it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, cast

import geoopt
import torch
from torch import Tensor
from torch.optim import Optimizer

from sttp_riemann.factors import owners
from sttp_riemann.frames import PolarStiefel
from sttp_riemann.momentum import momentum_of

BATCHED = 3
"""Dimensions of a batch of matrices."""


class _FrameStepper:
    """What both optimizers share: who steps what, and the gauge."""

    plain_kind: ClassVar[type[Optimizer]]
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]
    # Optimizers are copied and pickled by torch without their own attributes.
    gauge_fix_every: int = 0
    _plain: Optimizer | None = None

    def _step_frame(self, point: geoopt.ManifoldParameter, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _watch_gauge(self, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise ValueError(f"gauge_fix_every must be a whole number of steps, 0 for never; got {every!r}")
        if every and not owners(self._parameters()):
            raise ValueError("gauge_fix_every needs the parameters of a reparameterized model; these belong to none")
        self.gauge_fix_every = every

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model anew and returns the loss.

        Returns
        -------
        Any
            The closure's result, None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        steps = 0
        for group in self.param_groups:
            for point in group["params"]:
                if isinstance(point, geoopt.ManifoldParameter) and point.grad is not None:
                    state = self.state[point]
                    state["step"] = state.get("step", torch.zeros(())) + 1
                    self._step_frame(point, state, group)
                    steps = int(state["step"])
        self._step_plain()
        if self.gauge_fix_every and steps and steps % self.gauge_fix_every == 0:
            companions = momentum_of(cast(Optimizer, self))
            for factors in owners(self._parameters()):
                factors.fix_gauge(companions)
        return loss

    def _step_plain(self) -> None:
        """Let torch's own optimizer step what is no frame, with our groups and our state."""
        if self._plain is None:
            self._plain = self.plain_kind([torch.zeros(())], lr=1.0)  # type: ignore[call-arg]
        groups = []
        for group in self.param_groups:
            plain = [p for p in group["params"] if not isinstance(p, geoopt.ManifoldParameter)]
            if plain:
                groups.append({**self._plain.defaults, **group, "params": plain})
        self._plain.state, self._plain.param_groups = self.state, groups
        self._plain.step()


class RiemannianAdam(_FrameStepper, geoopt.optim.RiemannianAdam):
    """Adam for models whose parameters are partly frames.

    A frame has a first moment in the tangent space and one second moment a matrix; plain parameters are treated as
    `torch.optim.Adam` treats them, by it.

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
        L2 penalty on plain parameters. A frame's norm is constant, so it has none.
    amsgrad : bool
        Divide by the largest second moment so far.
    maximize : bool
        Ascend.
    foreach : bool, optional
        Passed on to torch for plain parameters.
    match_adam : bool
        Scale a frame's step so that its root mean square entry is about `lr`, as Adam's is. Without it a step's
        Frobenius norm is about `lr`, as in geoopt: sqrt(n r) times shorter.
    gauge_fix_every : int
        Steps between gauge fixings, 0 for never.

    Raises
    ------
    ValueError
        If a number is out of range, or `gauge_fix_every` is set and no parameter belongs to a reparameterized model.

    Notes
    -----
    Becigneul and Ganea 2019; the retraction is that of each parameter's manifold.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4)
    >>> optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2, gauge_fix_every=5)
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
        gauge_fix_every: int = 0,
    ) -> None:
        options = {"maximize": maximize, "foreach": foreach}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, **options)
        self.defaults["match_adam"] = match_adam
        for group in self.param_groups:
            group.setdefault("match_adam", match_adam)
        self._watch_gauge(gauge_fix_every)

    def _step_frame(self, point: geoopt.ManifoldParameter, state: dict[str, Any], group: dict[str, Any]) -> None:
        manifold, (beta1, beta2) = point.manifold, group["betas"]
        gradient = manifold.egrad2rgrad(point, -point.grad if group["maximize"] else point.grad)
        square = manifold.inner(point, gradient, keepdim=True)
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(gradient)
            state["exp_avg_sq"] = torch.zeros_like(square)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = torch.zeros_like(square)
        first, second, step = state["exp_avg"], state["exp_avg_sq"], float(state["step"])
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(square, 1 - beta2)
        if group["amsgrad"]:
            torch.maximum(state["max_exp_avg_sq"], second, out=state["max_exp_avg_sq"])
            second = state["max_exp_avg_sq"]
        entries = math.prod(point.shape[point.dim() - manifold.ndim :]) if group["match_adam"] else 1
        denominator = (second / (entries * (1 - beta2**step))).sqrt_().add_(group["eps"])
        _move(point, first, -group["lr"] / (1 - beta1**step) / denominator, first)


class RiemannianSGD(_FrameStepper, geoopt.optim.RiemannianSGD):
    """Gradient descent with momentum for models whose parameters are partly frames.

    Parameters
    ----------
    params : iterable
        Parameters or parameter groups; a frame is a `geoopt.ManifoldParameter`.
    lr : float
        Learning rate.
    momentum, dampening : float
        As in `torch.optim.SGD`, by which plain parameters are stepped.
    weight_decay : float
        L2 penalty on plain parameters.
    nesterov : bool
        Nesterov's momentum.
    maximize : bool
        Ascend.
    foreach : bool, optional
        Passed on to torch for plain parameters.
    gauge_fix_every : int
        Steps between gauge fixings, 0 for never.

    Raises
    ------
    ValueError
        If a number is out of range, or `gauge_fix_every` is set and no parameter belongs to a reparameterized model.

    Notes
    -----
    Bonnabel 2013; momentum is carried by projection to the new tangent space.

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
        gauge_fix_every: int = 0,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov)
        options = {"maximize": maximize, "foreach": foreach}
        self.defaults.update(options)
        for group in self.param_groups:
            group.update({**options, **group})
        self._watch_gauge(gauge_fix_every)

    def _step_frame(self, point: geoopt.ManifoldParameter, state: dict[str, Any], group: dict[str, Any]) -> None:
        manifold, momentum = point.manifold, group["momentum"]
        gradient = manifold.egrad2rgrad(point, -point.grad if group["maximize"] else point.grad)
        if not momentum:
            _move(point, gradient, torch.full((), -group["lr"]).to(point), None)
            return
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = gradient.clone()
        else:
            state["momentum_buffer"].mul_(momentum).add_(gradient, alpha=1 - group["dampening"])
        buffer = state["momentum_buffer"]
        direction = gradient.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        _move(point, direction, torch.full((), -group["lr"]).to(point), buffer)


def _move(point: geoopt.ManifoldParameter, direction: Tensor, scale: Tensor, carried: Tensor | None) -> None:
    """Retract along ``scale * direction`` and transport what is carried, in place."""
    manifold = point.manifold
    if isinstance(manifold, PolarStiefel) and point.dim() == BATCHED:
        manifold.move_(point, direction, scale, carried)
    elif carried is None:
        point.copy_(manifold.retr(point, scale * direction))
    else:
        moved, transported = manifold.retr_transp(point, scale * direction, carried)
        point.copy_(moved)
        carried.copy_(transported)
