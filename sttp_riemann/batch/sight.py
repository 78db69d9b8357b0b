"""What the forwards of a step leave for its backward, seen by the memory that is still there at their ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sttp_riemann.batch.budget import Call, Key, Step
from sttp_riemann.compat import PLAIN

POSSIBLE = hasattr(TorchDispatchMode, "supports_higher_order_operators")
"""Older releases of torch refuse some operators while anything looks on."""


@dataclass
class Visit:
    """A call of a layer; sizes in bytes.

    Attributes
    ----------
    weight : int
        Stands for the weight that the layer shares with its twins.
    share : float
        Largest share of the dense network's memory.
    input, copied
        As in `Call`.
    dense_weight, parameters, factors : float
        Of W, of the parameters instead of it, and of U and V.
    codes, cost, key, kept
        As in `Call`.
    output : float or None
        As in `Call`; None as long as there is none.
    number : int
        Visits of the same forward before.
    """

    weight: int
    share: float
    input: float
    copied: bool
    dense_weight: float
    parameters: float
    factors: float
    codes: float = 0.0
    cost: float = 0.0
    key: Key | None = None
    kept: bool = False
    output: float | None = None
    number: int = 0


@dataclass
class _Made:
    """Memory that an operator made: its size, how many visits began before, and whether a layer keeps it for itself."""

    storage: ref[Any]
    bytes: float
    before: int
    inside: bool


class Sight(TorchDispatchMode):
    """Looks on while forwards run; nothing that they compute depends on it.

    Parameters
    ----------
    model : nn.Module
        Whose forwards they are; its parameters and buffers do not count.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        held = [t for t in (*model.parameters(), *model.buffers()) if type(t) in PLAIN and not is_lazy(t)]
        self._ignored = {t.untyped_storage()._cdata for t in held}
        self._made: dict[int, _Made] = {}
        self._visits: list[Visit] = []
        self._open: list[Visit] = []
        self._weights: set[int] = set()
        self.calls: list[Call] = []
        self.share = float("inf")
        self._common = self._inside = self._dense_weights = 0.0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """What compilers run is theirs."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and remember the memory that it made."""
        result = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            for tensor in tree_leaves(result):
                if type(tensor) in PLAIN and isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                    self._remember(tensor)
        return result

    def _remember(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        known = self._made.get(storage._cdata)
        if storage._cdata not in self._ignored and (known is None or known.storage() is None):
            made = _Made(ref(storage), storage.nbytes(), len(self._visits), bool(self._open))
            self._made[storage._cdata] = made

    def open(self, visit: Visit) -> None:
        """See a call of a layer begin."""
        visit.number = len(self._visits)
        self._visits.append(visit)
        self._open.append(visit)

    def close(self, visit: Visit, output: Tensor | None) -> None:
        """See it end, or fail without an output."""
        self._open.remove(visit)
        if output is not None:
            visit.output = size_of(output)
            made = self._made.get(output.untyped_storage()._cdata) if type(output) in PLAIN else None
            if made is not None and made.inside:
                # A dense layer makes it, too
                made.inside, made.before = False, visit.number + 1

    def note(self, codes: Tensor, cost: float, kept: bool, key: Key | None) -> None:
        """See V^T x of the call that is open; the arguments as in `Call`."""
        if not self._open:
            return
        visit = self._open[-1]
        visit.codes, visit.cost, visit.kept, visit.key = size_of(codes), cost, kept, key
        if type(codes) in PLAIN:
            # They are counted by themselves
            self._made.pop(codes.untyped_storage()._cdata, None)

    def finish(self) -> None:
        """See a forward end: what is left now is kept for the backward."""
        left = [made for made in self._made.values() if made.storage() is not None]
        grown = [0.0] * (len(self._visits) + 1)
        for made in left:
            if made.inside:
                self._inside += made.bytes
            else:
                grown[made.before] += made.bytes
        *before, self._common = accumulate(grown, initial=self._common)
        for visit, common in zip(self._visits, before[1:], strict=True):
            self._count(visit, common)
        # What outlives the forward is not made again
        self._ignored |= {made.storage()._cdata for made in left if made.storage() is not None}  # type: ignore[union-attr]
        self._made, self._visits, self._open = {}, [], []

    def _count(self, visit: Visit, common: float) -> None:
        if visit.output is None:
            return
        first = visit.weight not in self._weights
        if first:
            self._weights.add(visit.weight)
            self._dense_weights += visit.dense_weight
            self._inside += visit.parameters
        self.share = min(self.share, visit.share)
        self.calls.append(
            Call(
                common=common,
                input=visit.input,
                output=visit.output,
                copied=visit.copied,
                dense_gradient=visit.dense_weight * first,
                gradient=visit.factors * first,
                codes=visit.codes,
                cost=visit.cost,
                key=visit.key,
                kept=visit.kept,
            )
        )

    def step(self) -> Step:
        """What has been seen so far."""
        return Step(self.calls, self._common, self._dense_weights, self._inside)


def size_of(tensor: Tensor) -> float:
    """Bytes of a tensor's numbers."""
    return float(tensor.numel() * tensor.element_size())
