"""Lifetime of built results: one forward of a model up to a step in it, or as long as the user asks; on one thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from sttp_riemann.batch.batch import Output, Plan
from sttp_riemann.batch.layout import Member
from sttp_riemann.batch.ledger import Ledger, ledger_of
from sttp_riemann.batch.operators import bound_operators
from sttp_riemann.batch.owner import Owner
from sttp_riemann.batch.products import SMALL, products
from sttp_riemann.batch.watch import watch
from sttp_riemann.checks import check_kind
from sttp_riemann.compat import PLAIN, in_transform


class _Built:
    """The result of one call of a plan, and the tensors that it came from."""

    def __init__(self, plan: Plan, layers: Sequence[Owner], output: Output) -> None:
        self.tensors = [layer.factor_tensors() for layer in layers]
        self.wanted = [_wanted(own) for own in self.tensors]
        self.inference = torch.is_inference_mode_enabled()
        self.results = plan(layers, output)
        if output == "pairs":
            bound_operators(layers, self.results)

    def serves(self, i: int, layer: Owner) -> bool:
        """Whether the layer still holds the same tensors (`functional_call` may swap them), for the same output."""
        now = layer.factor_tensors()
        same = len(now) == len(self.tensors[i]) and all(map(is_, now, self.tensors[i]))
        if not same or (self.inference and not torch.is_inference_mode_enabled()):
            return False
        return not torch.is_grad_enabled() or self.wanted[i] == _wanted(now)


def _wanted(tensors: Sequence[Tensor | None]) -> list[bool]:
    return [t is not None and t.requires_grad for t in tensors] if torch.is_grad_enabled() else []


class Part:
    """Layers that are built together, and their results."""

    def __init__(self, plan: Plan, layers: Sequence[Owner]) -> None:
        self.plan, self.layers = plan, layers
        self.built: dict[Output, _Built] = {}
        # With U diag(s), and whether it was built with a graph
        self.weights: dict[int, tuple[Tensor, bool, Tensor]] = {}

    def get(self, i: int, output: Output) -> list[Tensor]:
        """The result for one layer; builds all layers if necessary."""
        built = self.built.get(output)
        if built is None or not built.serves(i, self.layers[i]):
            built = self.built[output] = _Built(self.plan, self.layers, output)
        return built.results[i]

    def weight(self, i: int) -> Tensor:
        """W of one layer, in its own shape; the same tensor as long as its factors are the same."""
        left, right = self.get(i, "pairs")
        known, differentiable = self.weights.get(i), torch.is_grad_enabled()
        if known is None or known[0] is not left or (differentiable and not known[1]):
            # Those of equal small layers together: a call costs more than its arithmetic
            together = self.plan.equals[i] if left.shape[0] * right.shape[0] <= SMALL else [i]
            pairs = [self.built["pairs"].results[j] for j in together]
            for j, (own, _), matrix in zip(together, pairs, products(*zip(*pairs, strict=True)), strict=True):
                self.weights[j] = own, differentiable, self.layers[j].from_matrix(matrix)
        return self.weights[i][2]


Places = dict[int, tuple[Part, int]]


class Scope:
    """The built results of one model.

    Parameters
    ----------
    root : nn.Module
        The model, or a layer on its own.
    caller : frame, optional
        The call of the model that the results are for; they expire when it returns.
    ledger : Ledger, optional
        What the call keeps for its backward.
    """

    def __init__(
        self,
        root: nn.Module,
        caller: FrameType | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.root, self._caller, self.ledger = root, caller, ledger
        self._places: Places | None = None

    @property
    def alive(self) -> bool:
        """Whether the call is still running: an interrupt ends it without calling a hook."""
        if self._caller is None:
            return True
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._caller:
            frame = frame.f_back
        return frame is not None

    def expire(self) -> None:
        """Build anew from here on, unless the results are to outlive a call."""
        if self._caller is not None:
            self._places = None

    def place(self, layer: Owner) -> tuple[Part, int] | None:
        """Where to find the results for a layer; None for a layer of another model."""
        if self._places is None:
            self._places = places_of(self.root)
        return self._places.get(id(layer))


class _Scopes(threading.local):
    """One stack per thread, the outermost result first."""

    def __init__(self) -> None:
        self.open: list[Scope] = []


_SCOPES = _Scopes()
_PLANS: WeakKeyDictionary[nn.Module, Sequence[tuple[tuple[Member, ...], Plan]]] = WeakKeyDictionary()


def _close(scope: Scope) -> None:
    _SCOPES.open.remove(scope)
    if scope.ledger is not None:
        scope.ledger.end()


def part_of(layer: Owner) -> tuple[Part, int]:
    """Where to find the results for a layer at this moment.

    Parameters
    ----------
    layer : Owner
        Inside a forward of its model, or inside `cached`, it uses the model's results; otherwise its own.

    Returns
    -------
    tuple
        The holder of the results, and the layer's index in it.
    """
    for scope in list(_SCOPES.open):
        if not scope.alive:
            _close(scope)
        elif (found := scope.place(layer)) is not None:
            return found
    found = Scope(layer).place(layer)
    assert found is not None
    return found


@contextmanager
def cached(model: nn.Module) -> Iterator[None]:
    """Build the weights of a model once for all forwards inside the context, on this thread.

    Without it, every forward builds them. Use it for several forwards between two changes of the parameters: the
    real and the fake batch of a discriminator, evaluation, token-by-token generation. A parameter that changes inside
    the context has no effect on the weights until the context ends.

    Parameters
    ----------
    model : nn.Module
        A model with reparameterized layers, or a part of one.

    Raises
    ------
    TypeError
        `model` is not a module.

    Notes
    -----
    Works like `torch.nn.utils.parametrize.cached`.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4)
    >>> with sr.cached(model):
    ...     first, second = model.weight, model.weight
    >>> first is second, model.weight is first
    (True, False)
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    scope = Scope(model)
    _SCOPES.open.append(scope)
    try:
        yield
    finally:
        if scope in _SCOPES.open:
            _SCOPES.open.remove(scope)


def _stepped(*_: Any) -> None:
    """Let go of what running forwards have built: the forward of a model may be a whole step of its training.

    Lightning calls `training_step` as the forward of the module where that is wrapped for several processes.
    """
    if not in_transform():
        for scope in _SCOPES.open:
            scope.expire()


register_optimizer_step_post_hook(_stepped)


def open_ledger() -> Ledger | None:
    """The ledger of the outermost forward of a model that is running on this thread."""
    for scope in [scope for scope in _SCOPES.open if scope.ledger is not None]:
        if scope.alive:
            return scope.ledger
        _close(scope)
    return None


KEEPER = "_sttp_keeper"
"""Attribute of a model whose layers keep their weights, for forwards without gradients."""


def begin(module: nn.Module, args: Any) -> None:
    """Forward pre-hook of a model: start with no results."""
    if module.__dict__.get(KEEPER) is not None and not torch.is_grad_enabled():
        return
    if not in_transform():
        ledger = ledger_of(module) if torch.is_grad_enabled() and open_ledger() is None else None
        _SCOPES.open.append(Scope(module, sys._getframe(1), ledger))
        if ledger is not None:
            ledger.begin(module)


def end(module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook of a model, called on failure too: drop its results."""
    if _SCOPES.open and not in_transform():
        for scope in reversed(_SCOPES.open):
            if scope.root is module and scope._caller is not None:
                return _close(scope)


def share(model: nn.Module) -> None:
    """Let the layers of a model share results during its forward; copies and pickles do so, too.

    Parameters
    ----------
    model : nn.Module
        Gets two hooks; calling again adds none.
    """
    if begin not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(begin)
        model.register_forward_hook(end, always_call=True)


def unshare(model: nn.Module) -> None:
    """Undo `share` in all parts of a model.

    Parameters
    ----------
    model : nn.Module
        Loses the hooks.
    """
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [n for n, hook in hooks.items() if hook in (begin, end)]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)


def places_of(root: nn.Module) -> Places:
    """Group the layers of a model into parts that are built together, and say where each of them is."""
    groups: dict[Any, list[tuple[Owner, Member]]] = {}
    tied: dict[int, list[Owner]] = {}
    for layer in owners(root):
        # A sharded layer is whole only while it is itself being called
        if layer is not root and not PLAIN.issuperset(map(type, layer.factor_tensors())):
            continue
        same = tied.setdefault(id(layer.left), [])
        same.append(layer)
        if len(same) == 1:
            sample = layer.sample()
            member = layer.member_like(sample)
            groups.setdefault((member.kind, sample.device, sample.dtype, member.weight_dtype), []).append(
                (layer, member)
            )
    known, plans = _PLANS.get(root, ()), []
    places: Places = {}
    alike: list[list[Owner]] = []
    for found in groups.values():
        layers, members = [layer for layer, _ in found], tuple(member for _, member in found)
        alike.append(layers)
        plan = next((plan for before, plan in known if before == members), None) or Plan(members)
        plans.append((members, plan))
        part = Part(plan, layers)
        places.update({id(twin): (part, i) for i, layer in enumerate(layers) for twin in tied[id(layer.left)]})
    watch(root, alike)
    if plans != known:
        _PLANS[root] = plans
    return places


def owners(root: nn.Module) -> list[Owner]:
    """All layers of a model, each once; several times faster than `modules`, as this runs in every forward."""
    found, seen, waiting = [], set(), [root]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            if isinstance(module, Owner):
                found.append(module)
            else:
                waiting += [child for child in module._modules.values() if child is not None]
    return found[::-1]
