"""Contestants taking turns: a machine that is slower for a while slows all of them alike."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sttp_riemann.lab.bench.child import attempt
from sttp_riemann.lab.bench.contest import Contest, Contestant, Entry, Run
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.stopwatch import Stopwatch


def race(contest: Contest, settings: Settings, watch: Stopwatch | None = None) -> list[Entry]:
    """Measure all contestants of one row.

    Parameters
    ----------
    contest : Contest
        Who takes part.
    settings : Settings
        Rounds and time to spend.
    watch : Stopwatch, optional
        That of the device by default.

    Returns
    -------
    list of Entry
        One a contestant, in their order: median seconds, and the ratio to the reference.
    """
    gc.collect()  # networks of the row before
    watch = Stopwatch(settings.device) if watch is None else watch
    absent = {c.name: entry for c in contest.contestants if (entry := _absence(contest.case, c, settings))}
    runs = {c.name: c.build() for c in contest.contestants if c.name not in absent}
    samples = interleave(runs, settings.repetitions, settings.budget * len(runs), watch)
    return [_entry(contest, c.name, samples, absent) for c in contest.contestants]


def interleave(runs: Mapping[str, Run], repetitions: int, budget: float, watch: Stopwatch) -> dict[str, list[float]]:
    """Seconds a call of each, in every round once; each round begins with another.

    Parameters
    ----------
    runs : mapping
        What to call, by name.
    repetitions : int
        Rounds.
    budget : float
        Seconds after which no further round begins.
    watch : Stopwatch
        Timer.

    Returns
    -------
    dict
        Name to as many samples as there were rounds, at least one.
    """
    calls = {name: watch.calls_for_a_sample(run) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names, began = list(runs), watch.now()
    for turn in range(repetitions):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(watch.time(runs[name], calls[name]))
        if watch.now() - began > budget:
            break
    return samples


def paired_ratio(samples: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round, in which both saw the same machine."""
    return statistics.median(own / other for own, other in zip(samples, reference, strict=True))


def _entry(contest: Contest, name: str, samples: Mapping[str, Sequence[float]], absent: Mapping[str, Entry]) -> Entry:
    reference = samples[contest.reference]
    if name in absent:
        single = absent[name]
        return replace(single, ratio=single.value and single.value / statistics.median(reference))
    ratio = None if name == contest.reference else paired_ratio(samples[name], reference)
    return Entry(contest.case, name, statistics.median(samples[name]), ratio)


def _absence(case: str, contestant: Contestant, settings: Settings) -> Entry | None:
    """Return the entry of a contestant that cannot take turns with the others; None for one that can."""
    if contestant.missing:
        return Entry(case, contestant.name, note=contestant.missing)
    if not contestant.guarded:
        return None
    tried = attempt(contestant.build, settings.device, settings.budget)
    if tried.seconds is None:
        return Entry(case, contestant.name, note=tried.failure)
    # A call that warms up, and one a round
    if tried.seconds * (settings.repetitions + 1) > settings.budget:
        return Entry(case, contestant.name, tried.seconds, note="one call")
    return None
