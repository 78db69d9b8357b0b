"""Which intermediate results a training step computes again, so that it needs no more memory than is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SAFE = 0.995
"""Share of what is allowed that is used up: what optimizers and allocators hold for a while is not seen."""


class Key(NamedTuple):
    """A call of a layer: which layer, by its id, and how many of its calls in the same step came before."""

    layer: int
    turn: int


@dataclass(frozen=True)
class Call:
    """One call of a reparameterized layer in a step, in bytes unless it says otherwise.

    Attributes
    ----------
    common : float
        What the step holds when the backward comes to this call, its own input included, in the dense network too.
    input, output : float
        Gradients of its input and its output while they are needed.
    copied : bool
        Whether the kernels copy what they read into a layout of their own.
    dense_gradient, gradient : float
        Gradient of the dense weight, and of the factors instead; 0 but for the first call of a layer.
    codes : float
        V^T x; 0 where the layer builds W.
    cost : float
        Multiply-adds of computing V^T x.
    key : Key or None
        Where V^T x may be kept or computed again; None where that is not to be chosen.
    kept : bool
        Whether it is kept, where that is not to be chosen.
    """

    common: float
    input: float
    output: float
    copied: bool
    dense_gradient: float
    gradient: float
    codes: float = 0.0
    cost: float = 0.0
    key: Key | None = None
    kept: bool = False

    def dense_passing(self) -> float:
        """Most that the backward of the dense layer needs for a while."""
        return (1 + self.copied) * (self.input + self.output)

    def passing(self, again: bool) -> float:
        """Most that the backward of this layer needs for a while, V^T x included."""
        if not self.codes:
            return self.dense_passing()
        write = self.output + 2 * self.codes
        read = (1 + self.copied) * (self.input + self.codes)
        compute = self.output + self.codes + self.copied * self.input
        return max(write, read, compute if again else 0.0)


@dataclass(frozen=True)
class Step:
    """What the forwards of a training step leave for its backwards.

    Attributes
    ----------
    calls : sequence of Call
        In the order of the forwards.
    common : float
        Bytes at the end of the last forward, in the dense network too.
    dense_weights, weights : float
        Bytes of the dense weights; and of the parameters instead of them, with what building U and V keeps.
    """

    calls: Sequence[Call]
    common: float
    dense_weights: float
    weights: float

    def dense_peak(self) -> float:
        """Most bytes that the dense network's step holds, without the optimizer's moments."""
        later, peak = 0.0, self.common
        for call in reversed(self.calls):
            peak = max(peak, call.common + call.dense_passing() + later)
            later += call.dense_gradient
        return self.dense_weights + max(peak, later)

    def levels(self, again: set[Key]) -> list[float]:
        """Bytes held when the backward comes to each call, and at its beginning, if some calls keep no V^T x."""
        later, after = 0.0, []
        for call in reversed(self.calls):
            after.append(later)
            later += call.gradient
        before, found = 0.0, []
        for call, later in zip(self.calls, reversed(after), strict=True):
            own = call.key in again
            found.append(self.weights + call.common + before + call.passing(own) + later)
            before += call.codes if (call.kept if call.key is None else not own) else 0.0
        return [*found, self.weights + self.common + before]


def choose_again(step: Step, share: float, grain: float = 0.0) -> set[Key]:
    """The calls whose V^T x to compute again: the cheapest by multiply-adds per byte, and no more than it takes.

    Parameters
    ----------
    step : Step
        What was seen.
    share : float
        Largest share of the memory of the dense network's step.
    grain : float
        Bytes beyond it that do not matter.

    Returns
    -------
    set of Key
        Where the share cannot be reached, all that lowers the peak.

    Examples
    --------
    >>> from sttp_riemann.batch.budget import Call, Key, Step, choose_again
    >>> sizes = {"common": 40.0, "input": 8.0, "output": 8.0, "copied": False, "dense_gradient": 0.0, "gradient": 0.0}
    >>> calls = [Call(codes=4.0, cost=cost, key=Key(i, 0), **sizes) for i, cost in enumerate((9.0, 1.0, 4.0))]
    >>> step = Step(calls, common=50.0, dense_weights=6.0, weights=2.0)
    >>> [sorted(key.layer for key in choose_again(step, share)) for share in (1.1, 1.03, 0.5)]
    [[], [1], [0, 1]]
    """
    limit, again = share * SAFE * step.dense_peak() + grain, set[Key]()
    while True:
        levels = step.levels(again)
        worst = max(range(len(levels)), key=levels.__getitem__)
        excess = levels[worst] - limit
        left = [call for call in step.calls[:worst] if call.codes and call.key is not None and call.key not in again]
        if excess <= 0 or not left:
            break
        cheapest = min(left, key=lambda call: (call.cost / min(call.codes, excess), -call.codes))
        assert cheapest.key is not None
        again.add(cheapest.key)
    # The last may have been larger than what was missing, so that an earlier one is not needed any more
    limit = max(limit, max(step.levels(again)))
    for call in sorted((call for call in step.calls if call.key in again), key=lambda call: -call.cost):
        assert call.key is not None
        if max(step.levels(again - {call.key})) <= limit:
            again.discard(call.key)
    return again
