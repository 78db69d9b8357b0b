"""How optimizers step frames: equal ones together on their manifold, everything else by torch."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, ClassVar, NamedTuple

import geoopt
import torch
from torch import Tensor
from torch.optim import Optimizer

from sttp_riemann.checks import check_kind
from sttp_riemann.compat import PLAIN
from sttp_riemann.frames import PolarStiefel
from sttp_riemann.optim.gradients import GradientError, all_small, check_gradients
from sttp_riemann.optim.points import Points
from sttp_riemann.optim.rooms import CACHED, Rooms, gather, rows_of
from sttp_riemann.optim.verdict import Verdict, undoing, waits
from sttp_riemann.trains.memory import side_by_side

LARGE = 2**18
"""Size from which a frame is stepped alone and in place: stacking would copy it."""

State = dict[str, Any]
_Own = tuple[geoopt.ManifoldParameter, Tensor, State]


class FrameStepper:
    """Base class of both optimizers: divides the work, and refuses bad steps."""

    plain_kind: ClassVar[type[Optimizer]]
    sorted_by: ClassVar[tuple[str, ...]] = ()
    """Options of a group that `_apart` depends on."""
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]

    def _step_frames(self, points: Points, gradient: Tensor, kept: dict[str, Tensor], room: Tensor | None) -> None:
        """Take a step on frames and their state, by name, in place; `room` is scratch memory, or the gradient's own."""
        raise NotImplementedError

    def _apart(self, manifold: Any, group: dict[str, Any]) -> tuple[Any, ...]:
        """What frames of equal shape must have in common to be stepped together, besides the kind of manifold."""
        return ()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Parameters
        ----------
        closure : callable, optional
            Re-evaluates the model and returns the loss.

        Returns
        -------
        Any
            The closure's result; None without a closure.

        Raises
        ------
        TypeError
            The closure is not callable.
        ValueError
            A gradient or a learning rate is not finite, or a gradient is beyond 1e15; parameters and state are then as
            they were. With gradients on one accelerator and ``fused=True``, a bad gradient is reported by the next step
            instead, so that no step waits for the device.
        """
        self._settle()
        self._hear()
        loss = None
        if closure is not None:
            check_kind("closure", closure, Callable, "a function without arguments")
            with torch.enable_grad():
                loss = closure()
        # Plain tensors: the tensor subclass of geoopt's parameters would only cost time
        with torch._C.DisableTorchFunctionSubclass():
            stacks = [stack for group in self.param_groups for stack in self._equal(group)]
            refused = self._check(stacks)
            for stack in stacks:
                self._step_stack(stack, refused)
            self._rooms.end_step()
        self._step_plain(refused)
        return loss

    def _settle(self) -> None:
        """Restore what torch leaves out when it copies and pickles optimizers."""
        if "_plain" not in self.__dict__:
            self._plain = self.plain_kind([torch.zeros(())], lr=1.0)  # type: ignore[call-arg]
            self._rooms = Rooms()
            self._wholes: dict[tuple[str, int], tuple[Tensor, Sequence[Tensor]]] = {}
            self._known: dict[int, _Sorted] = {}
            self._verdict: Verdict | None = None

    def _hear(self) -> None:
        """Raise what the device has found out about the step before, and no longer count that step."""
        verdict, self._verdict = self._verdict, None
        if verdict is not None and (error := verdict.error(self.param_groups)):
            for state in verdict.states:
                state["step"] -= 1
                if not state["step"]:
                    state.clear()
            for parameter in verdict.fresh:
                self.state.pop(parameter, None)
            raise error

    def _hear_quietly(self) -> None:
        """The same where nothing may be raised."""
        try:
            self._settle()
            self._hear()
        except GradientError as error:
            warnings.warn(str(error), stacklevel=3)

    def state_dict(self) -> dict[str, Any]:
        """Give the state, as in torch; a step that turns out to be refused does not count in it.

        Warns
        -----
        UserWarning
            The last step was refused.
        """
        self._hear_quietly()
        found: dict[str, Any] = super().state_dict()  # type: ignore[misc]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Give the state that copies and pickles take along."""
        self._hear_quietly()
        found: dict[str, Any] = super().__getstate__()  # type: ignore[misc, assignment]
        return found

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a state; torch turns the step counts of frames, which are integers, into tensors."""
        super().__setstate__(state)  # type: ignore[misc]
        # What is still to be heard is of another state
        self._verdict = None
        for parameter, own in self.state.items():
            if isinstance(parameter, Tensor) and _is_frame(parameter) and "step" in own:
                own["step"] = int(own["step"])

    def _sort(self, group: dict[str, Any]) -> _Sorted:
        """Split a group's parameters with gradients; done anew only where one of them has changed."""
        looks = [
            (id(p), type(p), p.shape, p.dtype, p.device, id(getattr(p, "manifold", None)), p.grad is None)
            for p in group["params"]
        ]
        known, options = self._known.get(id(group)), [group[option] for option in self.sorted_by]
        if known is not None and known.looks == looks and known.options == options:
            return known
        equal: dict[Any, list[geoopt.ManifoldParameter]] = {}
        plain = []
        for parameter in group["params"]:
            if not _is_frame(parameter):
                plain.append(parameter)
            elif parameter.grad is not None:
                kind = type(parameter.manifold), *self._apart(parameter.manifold, group)
                equal.setdefault((parameter.shape, parameter.dtype, parameter.device, kind), []).append(parameter)
        # Of parameters that the groups have no more, as after a change of ranks, nothing is kept
        held = {id(parameter) for own in self.param_groups for parameter in own["params"]}
        self._wholes = {key: whole for key, whole in self._wholes.items() if key[1] in held}
        # Those whose rows run through their outer rank first precede
        ordered = [sorted(points, key=_outer_last) for points in equal.values()]
        self._known[id(group)] = _Sorted(looks, options, plain, ordered)
        return self._known[id(group)]

    def _equal(self, group: dict[str, Any]) -> list[_Stack]:
        """Frames of a group that have a gradient: equal shape and step count together, large ones alone."""
        stacks = []
        for points in self._sort(group).equal:
            by_age: dict[int, list[_Own]] = {}
            for point in points:
                state = self.state[point]
                by_age.setdefault(state.get("step", 0), []).append((point, point.grad, state))  # type: ignore[arg-type]
            size = points[0].numel()
            alone = size >= LARGE or not issubclass(type(points[0].manifold), PolarStiefel)
            together = 1 if alone else max(1, CACHED // max(1, size))
            for age, own in by_age.items():
                ordered, whole = (own, None) if together == 1 else _as_gradients_lie(own)
                for first in range(0, len(own), together):
                    part = slice(first, first + together)
                    stacks.append(_Stack(ordered[part], None if whole is None else whole[part], age + 1, group))
        return stacks

    def _step_stack(self, stack: _Stack, refused: Tensor | None) -> None:
        points, states = stack.points, stack.states
        names = [name for name, value in states[0].items() if isinstance(value, Tensor) and name != "step"]
        kept = {name: self._state(name, stack) for name in names}
        before = dict(kept)
        kind = type(points[0].manifold)
        known = issubclass(kind, PolarStiefel)
        rooms = [self._rooms.get(number, len(points), points[0]) if known else None for number in (0, 1)]
        x, copied = gather(points, kind, rooms[0])
        gradient, own = stack.together, False
        if gradient is None:
            gradient, own = gather(stack.gradients, kind, rooms[1])
        if stack.group["maximize"]:
            gradient, own = -gradient, True
        undo = None
        if refused is not None:
            gradient, own, undo = gradient.masked_fill(refused, 0), True, undoing(refused, x, kept)
        # Gradients must not change; a copy of them may be overwritten
        room = gradient if own else rooms[1] and rooms[1].whole
        spare = None if copied or rooms[0] is None else rooms[0].whole
        own_points = Points(points[0].manifold, x, stack.step, stack.group, stack.leading, spare)
        self._step_frames(own_points, gradient, kept, room)
        if undo is not None:
            undo()
        if copied:
            torch._foreach_copy_(list(points), rooms[0].rows if rooms[0] else list(rows_of(x, points)))
        for name, whole in kept.items():
            if before.get(name) is not whole or (name, id(points[0])) not in self._wholes:
                self._keep(name, stack, whole)
        for state in states:
            state["step"] = stack.step
        if self._verdict is not None:
            self._verdict.states += states

    def _state(self, name: str, stack: _Stack) -> Tensor:
        """State of several frames: as the last step left it, or gathered anew."""
        own = [state[name] for state in stack.states]
        whole, rows = self._wholes.get((name, id(stack.points[0])), (None, ()))
        if whole is not None and len(rows) == len(own) and all(map(is_, own, rows)):
            return whole
        self._wholes.pop((name, id(stack.points[0])), None)
        gathered, copied = gather(own, type(stack.points[0].manifold))
        return gathered if copied or len(own) > 1 else gathered.clone()

    def _keep(self, name: str, stack: _Stack, whole: Tensor) -> None:
        """Store rows contiguously, so that the next step needs no copy."""
        rows = rows_of(whole, stack.points)
        for state, row in zip(stack.states, rows, strict=True):
            state[name] = row
        self._wholes[name, id(stack.points[0])] = whole, rows

    def _check(self, stacks: Sequence[_Stack]) -> Tensor | None:
        """Refuse a step before anything has moved, or give the flag by which it undoes itself on its device."""
        for number, group in enumerate(self.param_groups):
            if not math.isfinite(group["lr"]):
                raise ValueError(f"the learning rate of parameter group {number} is {group['lr']}; nothing was changed")
        plain = [
            (parameter.grad, group)
            for group in self.param_groups
            for parameter in self._known[id(group)].plain
            if parameter.grad is not None
        ]
        gradients = [gradient for gradient, _ in plain]
        for stack in stacks:
            gradients += stack.gradients if stack.together is None else (stack.together,)
        places = {gradient.device for gradient in gradients}
        # A sharded gradient is no plain tensor, and of plain parameters only fused steps can be undone
        alike = len(places) == 1 and PLAIN.issuperset(map(type, gradients))
        if alike and waits(*places) and all(group.get("fused") for _, group in plain):
            self._verdict = Verdict(self.param_groups)
            return self._verdict.refused
        if not all_small(gradients):
            check_gradients(self.param_groups)
        return None

    def _step_plain(self, refused: Tensor | None) -> None:
        """Let torch's optimizer step plain parameters, with our groups and our state."""
        groups = []
        for group in self.param_groups:
            plain = self._known[id(group)].plain
            if plain:
                groups.append({**self._plain.defaults, **group, "params": plain})
                rate_is_number = not isinstance(group["lr"], Tensor)
                if (
                    groups[-1]["foreach"] is None
                    and not groups[-1].get("fused")
                    and rate_is_number
                    and all(p.device.type == "cpu" and p.numel() < LARGE for p in plain)
                ):
                    groups[-1]["foreach"] = True  # fewer calls for small parameters, bitwise the same result
        self._plain.state, self._plain.param_groups = self.state, groups
        # Gradient scalers tell fused steps in the same way to do nothing
        self._plain.found_inf = None if refused is None else refused.float()  # type: ignore[attr-defined]
        if self._verdict is not None:
            self._verdict.fresh += [p for own in groups for p in own["params"] if not self.state.get(p)]
        if groups:
            # Hooks on steps are called for the whole step
            step = type(self._plain).step
            (step.__wrapped__ if getattr(step, "hooked", False) else step)(self._plain)  # type: ignore[attr-defined]


def _is_frame(parameter: Tensor) -> bool:
    # `isinstance` of a parameter class is a Python call
    return issubclass(type(parameter), geoopt.ManifoldParameter)


class _Sorted(NamedTuple):
    """A group's parameters by what steps them, and what they looked like and its options were when they were sorted."""

    looks: list[Any]
    options: list[Any]
    plain: list[Tensor]
    equal: list[list[geoopt.ManifoldParameter]]


class _Stack:
    """Frames of a group that are stepped together; `together` holds their gradients where these are one tensor.

    Rows of the `leading` first frames run through their outer rank first.
    """

    def __init__(self, own: Sequence[_Own], together: Tensor | None, step: int, group: dict[str, Any]) -> None:
        self.points, self.gradients, self.states = zip(*own, strict=True)
        self.step, self.group, self.together = step, group, together
        self.leading = len(own) - sum(map(_outer_last, self.points))
        if together is None and isinstance(self.points[0].manifold, PolarStiefel):
            together = side_by_side(self.gradients)
        if together is not None:
            self.together = together.view(-1, *self.points[0].shape[-2:])


def _as_gradients_lie(own: list[_Own]) -> tuple[list[_Own], Tensor | None]:
    """Frames in the order of their gradients in memory, and that memory, where these are all rows of one tensor.

    A backward leaves them in the order of its batch, and then none is copied. Otherwise the order is that of the
    parameters: an order that depends on free memory could not be reproduced by a resumed run.
    """
    ordered = sorted(own, key=_place)
    lasts = [_outer_last(point) for point, _, _ in ordered]
    whole = side_by_side([gradient for _, gradient, _ in ordered]) if lasts == sorted(lasts) else None
    return (own, None) if whole is None else (ordered, whole)


def _outer_last(point: geoopt.ManifoldParameter) -> bool:
    """Whether the rows of a frame run through the mode first."""
    return not getattr(point.manifold, "outer_first", True)


def _place(own: _Own) -> int:
    return own[1].data_ptr()
