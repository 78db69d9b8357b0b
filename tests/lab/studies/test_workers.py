from __future__ import annotations

import os
import signal
import time
from multiprocessing import active_children

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.workers import WorkerError, spread


def interrupted_double(value):
    os.kill(os.getpid(), signal.SIGINT)
    return 2 * value


def fail_on_zero(value):
    if value == 0:
        raise ValueError("zero")
    time.sleep(24 * 3600)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_worker_is_this_process():
    assert list(spread(os.getpid, [(), ()], 1)) == [(0, os.getpid()), (1, os.getpid())]


def test_a_fault_ends_what_is_under_way():
    # The others would take a day
    with pytest.raises(ValueError, match="zero"):
        list(spread(fail_on_zero, [(1,), (0,), (1,)], 2))
    assert active_children() == []


def test_a_worker_that_was_killed_is_told_of():
    with pytest.raises(WorkerError, match="fewer --workers"):
        list(spread(kill, [()], 2))


def test_workers_do_every_task_once_and_leave_an_interruption_to_who_started_them():
    assert dict(spread(interrupted_double, [(3,), (1,), (2,)], 2)) == {0: 6, 1: 2, 2: 4}


def test_no_workers_are_refused():
    with pytest.raises(RecipeError, match="workers must be at least 1, not 0"):
        list(spread(os.getpid, [()], 0))


def test_workers_are_refused_among_the_processes_of_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="give no --workers"):
        list(spread(os.getpid, [()], 2))
