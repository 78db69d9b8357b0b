"""Timing of one callable."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from sttp_riemann.lab.bench.contest import Run

SAMPLE_SECONDS = 0.02
MOST_CALLS = 100
LONG_SECONDS = 1.0


class Stopwatch:
    """Times calls; on CUDA it waits for what they have launched.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        Where the calls compute.
    clock : callable
        Time in seconds.
    """

    def __init__(self, device: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.now = device, clock

    def time(self, run: Run, calls: int = 1) -> float:
        """Seconds a call, over so many in a row."""
        self._wait()
        began = self.now()
        for _ in range(calls):
            run()
        self._wait()
        return (self.now() - began) / calls

    def calls_for_a_sample(self, run: Run) -> int:
        """Warm up, and count the calls in a row after which the grain of clock and scheduler no longer matters."""
        if self.time(run) >= LONG_SECONDS:
            return 1  # whatever else a first call sets up
        seconds = self.time(run)
        return max(1, min(MOST_CALLS, round(SAMPLE_SECONDS / max(seconds, SAMPLE_SECONDS / MOST_CALLS))))

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
