"""How long a built result lives: for one forward of a model, or as long as a user says; on one thread."""

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

from sttp_riemann.batch.batch import Output, Plan
from sttp_riemann.batch.layout import Member
from sttp_riemann.batch.owner import Owner
from sttp_riemann.batch.products import product
from sttp_riemann.batch.watch import watch
from sttp_riemann.checks import check_kind
from sttp_riemann.compat import geoopt, in_transform

PLAIN = {Tensor, nn.Parameter, geoopt.ManifoldParameter, type(None)}
"""Kinds of tensors that are whole, not sharded."""


class _Built:
    """What one call of a plan gave, and of which tensors."""

    def __init__(self, plan: Plan, layers: Sequence[Owner], output: Output) -> None:
        self.tensors = [layer.factor_tensors() for layer in layers]
        self.wanted = [_wanted(own) for own in self.tensors]
        self.inference = torch.is_inference_mode_enabled()
        self.results = plan(layers, output)

    def serves(self, i: int, layer: Owner) -> bool:
        """Whether the layer holds the same tensors still, as `functional_call` may change, and wants what it wanted."""
        now = layer.factor_tensors()
        same = len(now) == len(self.tensors[i]) and all(map(is_, now, self.tensors[i]))
        if not same or (self.inference and not torch.is_inference_mode_enabled()):
            return False
        return not torch.is_grad_enabled() or self.wanted[i] == _wanted(now)


def _wanted(tensors: Sequence[Tensor | None]) -> list[bool]:
    return [t is not None and t.requires_grad for t in tensors] if torch.is_grad_enabled() else []


class Part:
    """Layers that are built together, with what was built of them."""

    def __init__(self, plan: Plan, layers: Sequence[Owner]) -> None:
        self.plan, self.layers = plan, layers
        self.built: dict[Output, _Built] = {}
        self.weights: dict[int, tuple[Tensor, Tensor]] = {}

    def get(self, i: int, output: Output) -> list[Tensor]:
        """The result for one layer, built for all if need be."""
        built = self.built.get(output)
        if built is None or not built.serves(i, self.layers[i]):
            built = self.built[output] = _Built(self.plan, self.layers, output)
        return built.results[i]

    def weight(self, i: int) -> Tensor:
        """W of one layer, in its own shape; the same tensor as long as its factors are."""
        left, right = self.get(i, "pairs")
        known = self.weights.get(i)
        if known is None or known[0] is not left:
            known = self.weights[i] = left, self.layers[i].from_matrix(product(left, right))
        return known[1]


class Scope:
    """The built results of one model.

    Parameters
    ----------
    root : nn.Module
        The model, or a layer on its own.
    caller : frame, optional
        The call of the model that the results are for; they are dead when it has returned.
    """

    def __init__(self, root: nn.Module, caller: FrameType | None = None) -> None:
        self.root, self._caller = root, caller
        self._places: dict[int, tuple[Part, int]] | None = None

    @property
    def alive(self) -> bool:
        """Whether the call is still running: an interrupt ends it without a hook being called."""
        if self._caller is None:
            return True
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._caller:
            frame = frame.f_back
        return frame is not None

    def place(self, layer: Owner) -> tuple[Part, int] | None:
        """Where the results for a layer are; None for a layer of another model."""
        if self._places is None:
            self._places = _places(self.root)
        return self._places.get(id(layer))


class _Scopes(threading.local):
    """Of each thread its own, the outermost first."""

    def __init__(self) -> None:
        self.open: list[Scope] = []


_SCOPES = _Scopes()
_PLANS: WeakKeyDictionary[nn.Module, Sequence[tuple[tuple[Member, ...], Plan]]] = WeakKeyDictionary()


def part_of(layer: Owner) -> tuple[Part, int]:
    """Where the results for a layer are at this moment.

    Parameters
    ----------
    layer : Owner
        Within a forward of its model, or within `cached`, that model's; otherwise its own, for this call.

    Returns
    -------
    tuple
        What has them, and the layer's place there.
    """
    for scope in list(_SCOPES.open):
        if not scope.alive:
            _SCOPES.open.remove(scope)
        elif (found := scope.place(layer)) is not None:
            return found
    found = Scope(layer).place(layer)
    assert found is not None
    return found


@contextmanager
def cached(model: nn.Module) -> Iterator[None]:
    """Build the weights of a model once for all its forwards inside the context, on this thread.

    Without it they are built once a forward. Use it for several forwards between two changes of the parameters: the
    real and the fake batch of a discriminator, evaluation, generation token by token. A change of a parameter inside
    the context is not seen before its end.

    Parameters
    ----------
    model : nn.Module
        A model with reparameterized layers, or a part of one.

    Raises
    ------
    TypeError
        It is no module.

    Notes
    -----
    As `torch.nn.utils.parametrize.cached`.

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


def begin(module: nn.Module, args: Any) -> None:
    """Hook before a model's forward: results are built anew in it."""
    if not in_transform():
        _SCOPES.open.append(Scope(module, sys._getframe(1)))


def end(module: nn.Module, args: Any, output: Any) -> None:
    """Hook after a model's forward, also where that fails: forget what was built for it."""
    if not in_transform():
        for scope in reversed(_SCOPES.open):
            if scope.root is module and scope._caller is not None:
                _SCOPES.open.remove(scope)
                return


def share(model: nn.Module) -> None:
    """Let the layers of a model share what is built, for one forward of it; copies and pickles do the same.

    Parameters
    ----------
    model : nn.Module
        Gets two hooks, once.
    """
    if begin not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(begin)
        model.register_forward_hook(end, always_call=True)


def unshare(model: nn.Module) -> None:
    """Undo `share`, in all parts of a model.

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


def _places(root: nn.Module) -> dict[int, tuple[Part, int]]:
    groups: dict[Any, list[Owner]] = {}
    tied: dict[int, list[Owner]] = {}
    for layer in _owners(root):
        sample = layer.sample()
        # A sharded layer is whole only while it is called itself
        if layer is not root and not PLAIN.issuperset(map(type, layer.factor_tensors())):
            continue
        same = tied.setdefault(id(layer.left), [])
        same.append(layer)
        if len(same) == 1:
            key = type(layer.left), sample.device, sample.dtype, layer.weight_dtype
            groups.setdefault(key, []).append(layer)
    known, plans, places = _PLANS.get(root, ()), [], {}
    for layers in groups.values():
        members = tuple(layer.member() for layer in layers)
        plan = next((plan for before, plan in known if before == members), None) or Plan(members)
        plans.append((members, plan))
        watch(root, layers)
        part = Part(plan, layers)
        places.update({id(twin): (part, i) for i, layer in enumerate(layers) for twin in tied[id(layer.left)]})
    if plans != known:
        _PLANS[root] = plans
    return places


def _owners(root: nn.Module) -> list[Owner]:
    """All layers of a model, each once; `modules` would take several times as long, and this is done every forward."""
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
