"""Three ways to measure a contest: time, peak memory, operator calls."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sttp_riemann.lab.bench.child import attempt, now
from sttp_riemann.lab.bench.contest import Contest, Contestant, Row, Run, row
from sttp_riemann.lab.bench.settings import Settings

SAMPLE_SECONDS = 0.02
MOST_CALLS = 100
LONG_SECONDS = 1.0
# The second step has all that a step holds: gradients and the optimizer's moments too
STEPS = 2
MOST_PROCESSES = 3
LONGEST = 600.0

Clock = Callable[[], float]


def race(contest: Contest, settings: Settings, clock: Clock = now) -> list[Row]:
    """Time contestants in turns, so that a machine that is slower for a while slows all of them alike.

    Parameters
    ----------
    contest : Contest
        Who takes part.
    settings : Settings
        Rounds and time to spend.
    clock : callable
        Time in seconds.

    Returns
    -------
    list of dict
        Rows in seconds, one a round, in the order of the contestants; one for each that cannot take turns.
    """
    gc.collect()  # networks of the contest before
    absent = {c.name: found for c in contest.contestants if (found := _absence(contest, c, settings))}
    runs = {c.name: c.build() for c in contest.contestants if c.name not in absent}
    samples = interleave(runs, settings.repetitions, settings.budget * len(runs), clock)
    rows = []
    for c in contest.contestants:
        own = [row(contest, c, seconds, turn) for turn, seconds in enumerate(samples.get(c.name, []))]
        rows += own or [absent[c.name]]
    return rows


def interleave(runs: Mapping[str, Run], rounds: int, budget: float, clock: Clock) -> dict[str, list[float]]:
    """Time each run once a round; each round begins with another.

    Parameters
    ----------
    runs : mapping
        What to call, by name.
    rounds : int
        At most so many.
    budget : float
        Seconds after which no further round begins.
    clock : callable
        Time in seconds.

    Returns
    -------
    dict
        By name, the seconds of a call in each round, at least one.
    """
    calls = {name: calls_for_a_sample(run, clock) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names, began = list(runs), clock()
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(seconds_of(runs[name], clock, calls[name]))
        if clock() - began > budget:
            break
    return samples


def seconds_of(run: Run, clock: Clock, calls: int = 1) -> float:
    """Give the seconds of a call, over so many in a row."""
    began = clock()
    for _ in range(calls):
        run()
    return (clock() - began) / calls


def calls_for_a_sample(run: Run, clock: Clock) -> int:
    """Warm up, and count the calls in a row after which the grain of clock and scheduler no longer matters."""
    if seconds_of(run, clock) >= LONG_SECONDS:
        return 1  # whatever else a first call sets up
    seconds = seconds_of(run, clock)
    return max(1, min(MOST_CALLS, round(SAMPLE_SECONDS / max(seconds, SAMPLE_SECONDS / MOST_CALLS))))


def _absence(contest: Contest, contestant: Contestant, settings: Settings) -> Row | None:
    """Give the row of a contestant that cannot take turns with the others; None for one that can."""
    if contestant.missing:
        return row(contest, contestant, note=contestant.missing)
    if not contestant.guarded:
        return None
    tried = attempt(contestant.build, settings.device, settings.budget)
    if tried.failure:
        return row(contest, contestant, tried.seconds, note=tried.failure, capped=tried.capped)
    # A call that warms up, and one a round
    if tried.seconds * (settings.repetitions + 1) > settings.budget:
        return row(contest, contestant, tried.seconds, note="one call")
    return None


def peak_memory(contest: Contest, settings: Settings) -> list[Row]:
    """Measure the bytes at the peak of each contestant's second step, beyond those held before its network was built.

    Each is tried in a process of its own, up to three times.
    """
    rows = []
    for turn in range(min(settings.repetitions, MOST_PROCESSES)):
        for contestant in contest.contestants:
            tried = attempt(contestant.build, settings.device, LONGEST, STEPS, freed_at_once=True)
            rows.append(row(contest, contestant, tried.peak, turn, tried.failure))
    return rows


def operator_calls(contest: Contest, settings: Settings) -> list[Row]:
    """Count the operators that one call of each contestant dispatches."""
    return [row(contest, c, count_calls(c.build()), 0) for c in contest.contestants]


def count_calls(run: Run) -> int:
    """Count the operators that a callable dispatches, without those that only make a view of a tensor.

    A view computes nothing and launches no kernel.
    """
    with _Counter() as counter:
        run()
    return counter.calls


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Tensor:
        self.calls += not func.is_view
        return func(*args, **(kwargs or {}))
