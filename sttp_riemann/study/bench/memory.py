"""Peak memory of a training step, each in a process of its own."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from sttp_riemann.study.bench.child import Attempt, attempt
from sttp_riemann.study.bench.contest import Contest, Entry
from sttp_riemann.study.bench.settings import Settings

# The second step has all that a step holds: gradients and the optimizer's moments too
STEPS = 2
MOST_PROCESSES = 3
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


def _median(attempts: Sequence[Attempt]) -> float | None:
    peaks = [a.peak for a in attempts if a.peak is not None]
    return statistics.median(peaks) if peaks else None
