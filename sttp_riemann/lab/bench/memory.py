"""Peak memory of a training step, each in a process of its own."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sttp_riemann.lab.bench.child import Attempt, attempt
from sttp_riemann.lab.bench.contest import Contest, Entry
from sttp_riemann.lab.bench.settings import Settings

# The second step has all that a step holds: gradients and the optimizer's moments too
STEPS = 2
MOST_PROCESSES = 3
# Of glibc's malloc: blocks from this many bytes on are mapped one by one
THRESHOLD = "MALLOC_MMAP_THRESHOLD_"
LONGEST = 600.0


def measure(contest: Contest, settings: Settings) -> list[Entry]:
    """Peak bytes of every contestant's last step, beyond what the process had before its network was built.

    Parameters
    ----------
    contest : Contest
        Training steps.
    settings : Settings
        Where, and how often at most.

    Returns
    -------
    list of Entry
        Medians over processes, and ratios to the reference.
    """
    tried: dict[str, list[Attempt]] = {c.name: [] for c in contest.contestants}
    with _freed_at_once():
        for _ in range(min(settings.repetitions, MOST_PROCESSES)):
            for contestant in contest.contestants:
                # Time is not what is asked here
                tried[contestant.name].append(attempt(contestant.build, settings.device, LONGEST, STEPS))
    peaks = {name: _median(attempts) for name, attempts in tried.items()}
    reference = peaks[contest.reference]
    return [
        Entry(
            contest.case,
            name,
            peak,
            peak / reference if name != contest.reference and peak and reference else None,
            next((a.failure for a in tried[name] if a.failure), ""),
        )
        for name, peak in peaks.items()
    ]


@contextmanager
def _freed_at_once() -> Iterator[None]:
    """Let processes that are started meanwhile give freed blocks back to the system, where glibc allocates.

    Otherwise what it keeps between blocks of many sizes counts as held, and two measurements differ by a tenth.
    """
    before = os.environ.get(THRESHOLD)
    os.environ[THRESHOLD] = "131072"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THRESHOLD]
        else:
            os.environ[THRESHOLD] = before


def _median(attempts: Sequence[Attempt]) -> float | None:
    peaks = [a.peak for a in attempts if a.peak is not None]
    return statistics.median(peaks) if peaks else None
