"""Which calls of layers compute V^T x again in the backward, chosen from what a step of the model was seen to keep."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import nn

from sttp_riemann.batch.budget import Key, choose_again
from sttp_riemann.batch.sight import POSSIBLE, Sight

PATIENCE = 8
"""Steps that are looked at in search of a call that was not seen before."""


GRAIN = 2**20
"""Bytes beyond what is allowed that allocators blur: to compute so little again takes longer than it is worth."""


class Ledger:
    """What to compute again in the backwards of a model on one thread.

    A step is all forwards whose graphs are alive together: those of a discriminator on real and on generated images,
    and each part of an accumulated batch by itself. The choice is made anew where calls grow or new ones come.
    """

    def __init__(self) -> None:
        self._alive: list[ref[Any]] = []
        self._marked = False
        self._turns: dict[int, int] = {}
        self._known: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._missing: dict[Key, float] = {}
        self._patience = PATIENCE
        self._fresh = POSSIBLE
        self._step: Sight | None = None
        self.sight: Sight | None = None

    def begin(self, model: nn.Module) -> None:
        """Begin a forward of the model."""
        self.end()
        if not any(token() is not None for token in self._alive):
            self._turn(model)
        self._marked = False
        if self._step is not None:
            self.sight = self._step.__enter__()

    def end(self) -> None:
        """End the forward that is running, if any."""
        if self.sight is not None:
            self.sight.__exit__(None, None, None)
            self.sight.finish()
            self.sight = None

    def decide(self, layer: nn.Module, codes: float, usual: bool) -> tuple[Key, bool]:
        """Whether the next call of a layer computes V^T x again.

        Parameters
        ----------
        layer : nn.Module
            Which.
        codes : float
            Bytes of V^T x.
        usual : bool
            The answer as long as nothing is known.

        Returns
        -------
        tuple
            The key of the call, and the answer.
        """
        turn = self._turns.get(id(layer), 0)
        self._turns[id(layer)] = turn + 1
        key = Key(id(layer), turn)
        known = self._known.get(key)
        if POSSIBLE and (known is None or known < codes):
            self._missing[key] = codes
        return key, usual if known is None else key in self._again

    def mark(self, token: Any) -> None:
        """Say what is alive as long as the graph of this forward."""
        if not self._marked:
            self._marked = True
            self._alive.append(ref(token))

    def _turn(self, model: nn.Module) -> None:
        """Begin a step: nothing of the one before is alive."""
        seen, self._step = self._step, None
        if seen is not None and seen.calls:
            self._choose(seen)
        self._alive.clear()
        self._turns.clear()
        if self._fresh or self._missing:
            self._step, self._fresh = Sight(model), False

    def _choose(self, seen: Sight) -> None:
        now = {call.key: call.codes for call in seen.calls if call.key is not None}
        again = choose_again(seen.step(), seen.share, GRAIN)
        if all(now.get(key, -1.0) >= size for key, size in self._known.items()):
            self._again = again
        else:
            # Steps of different kinds: what either of them needs
            self._again |= again
        self._known.update({key: max(size, self._known.get(key, 0.0)) for key, size in now.items()})
        self._missing = {key: size for key, size in self._missing.items() if self._known.get(key, -1.0) < size}
        self._patience -= 1
        if not self._missing or not self._patience:
            self._missing, self._patience = {}, PATIENCE


_LEDGERS = threading.local()


def ledger_of(model: nn.Module) -> Ledger:
    """The ledger of a model on this thread."""
    if not hasattr(_LEDGERS, "by_model"):
        _LEDGERS.by_model = WeakKeyDictionary()
    found: Ledger = _LEDGERS.by_model.setdefault(model, Ledger())
    return found
