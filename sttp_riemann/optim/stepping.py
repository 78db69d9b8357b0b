"""How optimizers step frames: equal ones together on their manifold, everything else as torch does it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, ClassVar, NamedTuple

import geoopt
import torch
from torch import Tensor
from torch.optim import Optimizer

from sttp_riemann.checks import check_kind
from sttp_riemann.frames import PolarStiefel

LARGE = 2**16
"""Entries from which a frame is stepped alone and in place: to stack it with others would cost a copy of it."""
CACHED = 2**19
"""Entries of frames that are stepped together at most."""
MOST = 1e15
"""Largest norm of a gradient whose square is safely finite in float32."""

State = dict[str, Any]


class FrameStepper:
    """What both optimizers share: who steps what, and what is refused."""

    plain_kind: ClassVar[type[Optimizer]]
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]

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
        TypeError
            The closure cannot be called.
        ValueError
            A gradient or a learning rate is not finite, or a gradient is beyond 1e15; parameters and state are then as
            they were.
        """
        loss = None
        if closure is not None:
            check_kind("closure", closure, Callable, "a function without arguments")
            with torch.enable_grad():
                loss = closure()
        self._settle()
        # What geoopt's parameters know beside being tensors would only cost time
        with torch._C.DisableTorchFunctionSubclass():
            self._check()
            stacks = [stack for group in self.param_groups for stack in self._equal(group)]
            for stack in stacks:
                self._step_stack(stack)
        self._step_plain()
        return loss

    def _settle(self) -> None:
        """Make what torch copies and pickles optimizers without."""
        if "_plain" not in self.__dict__:
            self._plain = self.plain_kind([torch.zeros(())], lr=1.0)  # type: ignore[call-arg]
            self._rooms: dict[Any, Tensor] = {}
            self._wholes: dict[tuple[str, int], tuple[Tensor, Sequence[Tensor]]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; torch makes tensors of the ages of frames, which are whole numbers."""
        super().__setstate__(state)  # type: ignore[misc]
        for parameter, own in self.state.items():
            if isinstance(parameter, Tensor) and _is_frame(parameter) and "step" in own:
                own["step"] = int(own["step"])

    def _equal(self, group: dict[str, Any]) -> list[_Stack]:
        """Frames of a group that have a gradient, those of equal shape and age together, large ones alone."""
        found: dict[Any, list[tuple[geoopt.ManifoldParameter, Tensor, State]]] = {}
        for point in group["params"]:
            gradient = point.grad
            if gradient is not None and _is_frame(point):
                state = self.state[point]
                key = point.shape, point.dtype, point.device, type(point.manifold), state.get("step", 0)
                found.setdefault(key, []).append((point, gradient, state))
        stacks = []
        for (shape, _, _, manifold, age), own in found.items():
            together = max(1, CACHED // max(1, shape.numel()))
            if shape.numel() >= LARGE or not issubclass(manifold, PolarStiefel):
                together = 1
            for first in range(0, len(own), together):
                points, gradients, states = zip(*own[first : first + together], strict=True)
                stacks.append(_Stack(points, gradients, states, age + 1, group))
        return stacks

    def _step_stack(self, stack: _Stack) -> None:
        points, states = stack.points, stack.states
        names = [name for name, value in states[0].items() if isinstance(value, Tensor) and name != "step"]
        kept = {name: self._state(name, stack) for name in names}
        before = dict(kept)
        x, copied = _gather(points, points, self._room(0, points))
        gradient, own = _gather(stack.gradients, points, self._room(1, points))
        if stack.group["maximize"]:
            gradient, own = -gradient, True
        # Gradients are left as they are; a copy of them may be lost
        room = gradient if own else self._room(1, points)
        self._step_frames(points[0].manifold, x, gradient, kept, stack.step, stack.group, room)
        if copied:
            torch._foreach_copy_(list(points), list(_rows(x, points)))
        for name, whole in kept.items():
            if before.get(name) is not whole or (name, id(points[0])) not in self._wholes:
                self._keep(name, stack, whole)
        for state in states:
            state["step"] = stack.step

    def _state(self, name: str, stack: _Stack) -> Tensor:
        """What is kept for several frames: as it was left by the last step, or gathered."""
        own = [state[name] for state in stack.states]
        whole, rows = self._wholes.get((name, id(stack.points[0])), (None, ()))
        if whole is not None and len(rows) == len(own) and all(map(is_, own, rows)):
            return whole
        self._wholes.pop((name, id(stack.points[0])), None)
        gathered, copied = _gather(own, stack.points)
        return gathered if copied or len(own) > 1 else gathered.clone()

    def _keep(self, name: str, stack: _Stack, whole: Tensor) -> None:
        """Leave rows that lie side by side, and so need no copy in the next step."""
        rows = _rows(whole, stack.points)
        for state, row in zip(stack.states, rows, strict=True):
            state[name] = row
        self._wholes[name, id(stack.points[0])] = whole, rows

    def _room(self, number: int, points: Sequence[geoopt.ManifoldParameter]) -> Tensor | None:
        """Memory for as many numbers as frames have, the same for all that are stepped together."""
        size = len(points) * points[0].numel()
        if size > CACHED or not isinstance(points[0].manifold, PolarStiefel):
            return None
        key = number, points[0].dtype, points[0].device
        if key not in self._rooms:
            self._rooms[key] = torch.empty(CACHED, dtype=points[0].dtype, device=points[0].device)
        return self._rooms[key][:size].view(-1, *points[0].shape[-2:])

    def _check(self) -> None:
        """Refuse a step before anything has moved."""
        for number, group in enumerate(self.param_groups):
            if not math.isfinite(group["lr"]):
                raise ValueError(f"the learning rate of parameter group {number} is {group['lr']}; nothing was changed")
        places = [
            (number, place, parameter)
            for number, group in enumerate(self.param_groups)
            for place, parameter in enumerate(group["params"])
            if parameter.grad is not None
        ]
        if not places:
            return
        gradients = [_wide_values(parameter.grad) for _, _, parameter in places]  # type: ignore[arg-type]
        norms = torch._foreach_norm(gradients, 2)
        device = norms[0].device
        if bool((torch.stack([n.to(device, torch.float32) for n in norms]) <= MOST).all()):
            return
        number, place, parameter = next(at for at, n in zip(places, norms, strict=True) if not float(n) <= MOST)
        known = self.param_groups[number].get("param_names")
        name = known[place] if known else f"number {place} of group {number}, of shape {tuple(parameter.shape)},"
        raise ValueError(
            f"the gradient of parameter {name} holds NaN, infinite or huge values; nothing was changed: leave this "
            "step out, or lower the learning rate"
        )

    def _step_plain(self) -> None:
        """Let torch's own optimizer step what is no frame, with our groups and our state."""
        groups = []
        for group in self.param_groups:
            plain = [p for p in group["params"] if not _is_frame(p)]
            if plain:
                groups.append({**self._plain.defaults, **group, "params": plain})
                rate_is_number = not isinstance(group["lr"], Tensor)
                if (
                    groups[-1]["foreach"] is None
                    and rate_is_number
                    and all(p.device.type == "cpu" and p.numel() < LARGE for p in plain)
                ):
                    groups[-1]["foreach"] = True  # fewer calls on what is small, the same to the bit
        self._plain.state, self._plain.param_groups = self.state, groups
        if groups:
            self._plain.step()


def _wide_values(gradient: Tensor) -> Tensor:
    """Entries whose norm is finite if they are."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return values if values.dtype.itemsize >= torch.float32.itemsize else values.float()


def _is_frame(parameter: Tensor) -> bool:
    # `isinstance` of a kind of parameter is a call of Python's
    return issubclass(type(parameter), geoopt.ManifoldParameter)


def projected(manifold: Any, x: Tensor, gradient: Tensor, room: Tensor | None) -> Tensor:
    """Riemannian gradient; in the place of the Euclidean one where that is a copy."""
    if not isinstance(manifold, PolarStiefel):
        tangent: Tensor = manifold.egrad2rgrad(x, gradient)
        return tangent
    xtu = x.mT @ gradient
    return torch.baddbmm(gradient, x, xtu + xtu.mT, alpha=-0.5, out=room)


def move(
    manifold: Any, x: Tensor, direction: Tensor, scale: Tensor, carried: Tensor | None, room: Tensor | None = None
) -> None:
    """Retract along ``scale * direction`` and transport what is carried, in place."""
    if isinstance(manifold, PolarStiefel):
        manifold.move_(x, direction, scale, carried, room)
    elif carried is None:
        x.copy_(manifold.retr(x, scale * direction))
    else:
        moved, transported = manifold.retr_transp(x, scale * direction, carried)
        x.copy_(moved)
        carried.copy_(transported)


class Gathered(NamedTuple):
    """(B, n, r) of matrices, or of batches of matrices: a copy, or what they are views of themselves."""

    whole: Tensor
    copied: bool


class _Stack:
    """Frames of a group that are stepped together."""

    def __init__(
        self,
        points: Sequence[geoopt.ManifoldParameter],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        step: int,
        group: dict[str, Any],
    ) -> None:
        self.points, self.states, self.step, self.group = points, states, step, group
        self.gradients = gradients


def _gather(
    tensors: Sequence[Tensor], points: Sequence[geoopt.ManifoldParameter], room: Tensor | None = None
) -> Gathered:
    first = tensors[0].detach()
    if not isinstance(points[0].manifold, PolarStiefel):
        return Gathered(first, copied=False)
    if len(tensors) == 1 and first.is_contiguous():
        return Gathered(first.view(-1, *first.shape[-2:]), copied=False)
    whole = _side_by_side(tensors)
    copied = whole is None
    if whole is None:
        room = None if room is None else room.view(len(tensors), *first.shape)
        whole = torch.stack([t.detach() for t in tensors], out=room)
    return Gathered(whole.view(-1, *first.shape[-2:]), copied)


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor | None:
    """What tensors are consecutive rows of; None where they are not."""
    first = tensors[0].detach()
    begin, size = first.data_ptr(), first.numel() * first.element_size()
    storage = first.untyped_storage()
    if begin + len(tensors) * size > storage.data_ptr() + storage.nbytes():
        return None
    # What lies in the memory of a storage is of that storage
    places = range(begin, begin + len(tensors) * size, max(size, 1))
    if any(t.data_ptr() != place or not t.is_contiguous() for t, place in zip(tensors, places, strict=True)):
        return None
    return first.as_strided((len(tensors), *first.shape), (first.numel(), *first.stride()))


def _rows(whole: Tensor, points: Sequence[geoopt.ManifoldParameter]) -> Sequence[Tensor]:
    """Undo `_gather`; where matrices became one number, so do the rows."""
    if not isinstance(points[0].manifold, PolarStiefel):
        return [whole]
    return whole.view(len(points), *points[0].shape[:-2], *whole.shape[-2:]).unbind()
