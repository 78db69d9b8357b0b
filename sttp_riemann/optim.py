"""Riemannian optimizers: equal frames are stepped together on their manifold, everything else as torch does it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import geoopt
import torch
from torch import Tensor
from torch.optim import Optimizer

from sttp_riemann.frames import PolarStiefel

LARGE = 2**16
"""Entries from which a frame is stepped alone and in place: to stack it with others would cost a copy of it."""
MOST = 1e15
"""Largest entry of a gradient whose square is safely finite in float32, and so is the sum of many."""


class _FrameStepper:
    """What both optimizers share: who steps what, and what is refused."""

    plain_kind: ClassVar[type[Optimizer]]
    carried: ClassVar[str]
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]
    # Optimizers are copied and pickled by torch without their own attributes.
    _plain: Optimizer | None = None

    def _step_frames(
        self, manifold: Any, x: Tensor, gradient: Tensor, kept: dict[str, Tensor], step: int, group: dict[str, Any]
    ) -> None:
        """Take step number `step` with frames (B, n, r), in place, and with what is kept for them, by name."""
        raise NotImplementedError

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

        Raises
        ------
        ValueError
            A gradient or a learning rate is not finite, or a gradient is beyond 1e15; parameters and state are then as
            they were.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # What geoopt's parameters know beside being tensors would only cost time
        with torch._C.DisableTorchFunctionSubclass():
            stacks = [_Stack(points, group) for group in self.param_groups for points in self._equal(group)]
            self._check(stacks)
            for stack in stacks:
                self._step_stack(stack)
        self._step_plain()
        return loss

    def _equal(self, group: dict[str, Any]) -> list[list[geoopt.ManifoldParameter]]:
        """Frames of a group that have a gradient, those of equal shape and age together, large ones alone."""
        found: dict[Any, list[geoopt.ManifoldParameter]] = {}
        for point in group["params"]:
            if isinstance(point, geoopt.ManifoldParameter) and point.grad is not None:
                alone = point.numel() >= LARGE or not isinstance(point.manifold, PolarStiefel)
                age = self.state[point].get("step", 0)
                key = id(point) if alone else (point.shape, point.dtype, point.device, int(age))
                found.setdefault(key, []).append(point)
        return list(found.values())

    def _step_stack(self, stack: _Stack) -> None:
        points, group = stack.points, stack.group
        states = [self.state[point] for point in points]
        step = int(states[0].get("step", 0)) + 1
        names = [name for name, value in states[0].items() if isinstance(value, Tensor) and name != "step"]
        kept = {name: _gather([state[name] for state in states], points) for name in names}
        x = _gather(points, points)
        gradient = -stack.gradient if group["maximize"] else stack.gradient
        self._step_frames(points[0].manifold, x, gradient, kept, step, group)
        _scatter([(x, points), *((kept[name], [state[name] for state in states]) for name in names)])
        for name in kept.keys() - names:
            for state, row in zip(states, _rows(kept[name], points), strict=True):
                state[name] = row.clone()
        for state in states:
            state["step"] = step

    def _check(self, stacks: Sequence[_Stack]) -> None:
        """Refuse a step before anything has moved."""
        for number, group in enumerate(self.param_groups):
            if not math.isfinite(group["lr"]):
                raise ValueError(f"the learning rate of parameter group {number} is {group['lr']}; nothing was changed")
        plain = [
            p.grad.coalesce().values() if p.grad.is_sparse else p.grad
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None and not isinstance(p, geoopt.ManifoldParameter)
        ]
        gradients = [*(stack.gradient for stack in stacks), *plain]
        if not gradients:
            return
        largest = torch._foreach_norm(gradients, math.inf)
        device = largest[0].device
        if not bool((torch.stack([n.to(device, torch.float32) for n in largest]) <= MOST).all()):
            raise ValueError(
                f"the gradient of parameter {self._worst()} holds NaN, infinite or huge values; nothing was changed: "
                "leave this step out, or lower the learning rate"
            )

    def _worst(self) -> str:
        """Name of the first parameter whose gradient is refused."""
        for number, group in enumerate(self.param_groups):
            for place, parameter in enumerate(group["params"]):
                if parameter.grad is not None and not float(parameter.grad.abs().max()) <= MOST:
                    known = group.get("param_names")
                    shape = tuple(parameter.shape)
                    return known[place] if known else f"number {place} of group {number}, of shape {shape},"
        raise AssertionError("no gradient is refused")

    def _step_plain(self) -> None:
        """Let torch's own optimizer step what is no frame, with our groups and our state."""
        if self._plain is None:
            self._plain = self.plain_kind([torch.zeros(())], lr=1.0)  # type: ignore[call-arg]
        groups = []
        for group in self.param_groups:
            plain = [p for p in group["params"] if not isinstance(p, geoopt.ManifoldParameter)]
            if plain:
                groups.append({**self._plain.defaults, **group, "params": plain})
                if groups[-1]["foreach"] is None and all(p.device.type == "cpu" and p.numel() < LARGE for p in plain):
                    groups[-1]["foreach"] = True  # fewer calls on what is small, the same to the bit
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

    Raises
    ------
    ValueError
        If a number is out of range.

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
        options = {"maximize": maximize, "foreach": foreach}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, **options)
        self.defaults["match_adam"] = match_adam
        for group in self.param_groups:
            group.setdefault("match_adam", match_adam)

    def _step_frames(
        self, manifold: Any, x: Tensor, gradient: Tensor, kept: dict[str, Tensor], step: int, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        gradient = manifold.egrad2rgrad(x, gradient)
        square = manifold.inner(x, gradient, keepdim=True)
        if "exp_avg" not in kept:
            kept.update(exp_avg=torch.zeros_like(gradient), exp_avg_sq=torch.zeros_like(square))
        first, second = kept["exp_avg"].lerp_(gradient, 1 - beta1), kept["exp_avg_sq"].lerp_(square, 1 - beta2)
        if group["amsgrad"]:
            largest = kept.setdefault("max_exp_avg_sq", torch.zeros_like(second))
            second = torch.maximum(largest, second, out=largest)
        entries = math.prod(x.shape[x.dim() - manifold.ndim :]) if group["match_adam"] else 1
        denominator = (second / (entries * (1 - beta2**step))).sqrt_().add_(group["eps"])
        _move(manifold, x, first, -group["lr"] / (1 - beta1**step) / denominator, first)


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

    Raises
    ------
    ValueError
        If a number is out of range.

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
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov)
        options = {"maximize": maximize, "foreach": foreach}
        self.defaults.update(options)
        for group in self.param_groups:
            group.update({**options, **group})

    def _step_frames(
        self, manifold: Any, x: Tensor, gradient: Tensor, kept: dict[str, Tensor], step: int, group: dict[str, Any]
    ) -> None:
        momentum, rate = group["momentum"], torch.full((), -group["lr"], dtype=x.dtype, device=x.device)
        gradient = manifold.egrad2rgrad(x, gradient)
        if not momentum:
            _move(manifold, x, gradient, rate, None)
            return
        if "momentum_buffer" in kept:
            buffer = kept["momentum_buffer"].mul_(momentum).add_(gradient, alpha=1 - group["dampening"])
        else:
            buffer = kept["momentum_buffer"] = gradient.clone()
        direction = gradient.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        _move(manifold, x, direction, rate, buffer)


def _move(manifold: Any, x: Tensor, direction: Tensor, scale: Tensor, carried: Tensor | None) -> None:
    """Retract along ``scale * direction`` and transport what is carried, in place."""
    if isinstance(manifold, PolarStiefel):
        manifold.move_(x, direction, scale, carried)
    elif carried is None:
        x.copy_(manifold.retr(x, scale * direction))
    else:
        moved, transported = manifold.retr_transp(x, scale * direction, carried)
        x.copy_(moved)
        carried.copy_(transported)


class _Stack:
    """Equal frames of a group, and their gradients together."""

    def __init__(self, points: Sequence[geoopt.ManifoldParameter], group: dict[str, Any]) -> None:
        self.points, self.group = points, group
        self.gradient = _gather([point.grad for point in points], points)  # type: ignore[misc]


def _gather(tensors: Sequence[Tensor], points: Sequence[geoopt.ManifoldParameter]) -> Tensor:
    """(B, n, r) of matrices or batches of matrices; of a tensor alone a view."""
    if not isinstance(points[0].manifold, PolarStiefel):
        return tensors[0].detach()
    stack = tensors[0].detach() if len(tensors) == 1 else torch.stack(list(tensors))
    return stack.view(-1, *tensors[0].shape[-2:])


def _scatter(pairs: Sequence[tuple[Tensor, Sequence[Tensor]]]) -> None:
    """Undo `_gather`, in place."""
    targets: list[Tensor] = []
    rows: list[Tensor] = []
    for stack, own in pairs:
        if len(own) > 1:
            targets += own
            rows += stack.view(len(own), *own[0].shape).unbind()
    if targets:
        torch._foreach_copy_(targets, rows)


def _rows(stack: Tensor, points: Sequence[geoopt.ManifoldParameter]) -> Sequence[Tensor]:
    """What belongs to each point, in the shape of the point but for matrices that became one number."""
    if not isinstance(points[0].manifold, PolarStiefel):
        return [stack]
    return stack.view(len(points), *points[0].shape[:-2], *stack.shape[-2:]).unbind()
