from __future__ import annotations

import math
import os
import time

import pytest
import torch

from sttp_riemann.lab.bench.child import attempt, available_memory, forget_peak, held, peak

MEBIBYTES = 2**20


def allocating():
    """Hold 60 MiB between calls, and 200 more during one."""
    held = torch.ones(60 * MEBIBYTES // 4)
    return lambda: torch.ones(200 * MEBIBYTES // 4) is held


def endless():
    return lambda: time.sleep(600)


def endless_to_set_up():
    time.sleep(600)


def failing():
    def run() -> None:
        raise RuntimeError("no such luck\nand more of it")

    return run


def greedy():
    return lambda: torch.empty(2**42, dtype=torch.uint8)


def dying():
    return lambda: os._exit(3)


def test_the_peak_is_that_of_the_last_call_beyond_what_an_idle_process_has():
    tried = attempt(allocating, "cpu", 60.0, calls=2, freed_at_once=True)
    assert tried.failure == ""
    assert tried.seconds > 0
    assert 255 * MEBIBYTES < tried.peak < 300 * MEBIBYTES


@pytest.mark.parametrize(
    ("build", "failure"),
    [
        (endless, "> 5 s"),
        (endless_to_set_up, "> 0.5 s setting up"),
        (failing, "fails: no such luck"),
        (greedy, "does not fit into memory"),
        (dying, "its process was ended by the system"),
    ],
)
def test_what_goes_wrong_is_told_and_ends_nothing_else(build, failure):
    # To set up takes a while on a busy machine, where the same time is for each stage
    timeout = {endless: 5.0, endless_to_set_up: 0.5}.get(build, 60.0)
    tried = attempt(build, "cpu", timeout)
    assert tried.failure == failure
    assert math.isnan(tried.peak)
    assert tried.capped == (timeout < 60.0)
    assert tried.seconds == timeout if tried.capped else math.isnan(tried.seconds)


def test_a_peak_is_forgotten_on_request():
    before = held()
    torch.ones(100 * MEBIBYTES // 4).sum()
    assert peak() - before > 90 * MEBIBYTES
    forget_peak()
    assert peak() - before < 50 * MEBIBYTES


def test_some_memory_is_available():
    assert available_memory() > MEBIBYTES
