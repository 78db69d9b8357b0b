"""A job tried in a process of its own, which may take too long, need too much memory, or be watched for its peak."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import nn

from sttp_riemann.lab.bench.contest import Run
from sttp_riemann.lab.bench.memory_meter import available_memory, peak_meter
from sttp_riemann.lab.bench.stopwatch import Stopwatch

START_SECONDS = 300.0
"""Importing torch on a busy machine takes its time, which is not the job's."""


@dataclass(frozen=True)
class Attempt:
    """What became of a job.

    Attributes
    ----------
    seconds : float or None
        Of the last call; None if it did not come back.
    peak : int or None
        Bytes at the peak of the last call beyond what the process had before the job was set up.
    failure : str
        Why there is nothing to show.
    """

    seconds: float | None = None
    peak: int | None = None
    failure: str = ""


def attempt(build: Callable[[], Run], device: str, timeout: float, calls: int = 1) -> Attempt:
    """Set a job up in a fresh process, call it, and end the process.

    Parameters
    ----------
    build : callable
        Sets the job up; must be picklable.
    device : {"cpu", "cuda"}
        Where it computes.
    timeout : float
        Seconds for setting up, and again for all calls.
    calls : int
        How often to call it; the last call is the one that is told of.

    Returns
    -------
    Attempt
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, build, device, calls, torch.get_num_threads(), available_memory() // 2)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    with _quiet_imports():
        process.start()
    theirs.close()
    try:
        return _follow(ours, timeout)
    finally:
        process.kill()
        process.join()
        ours.close()


def _follow(messages: Connection, timeout: float) -> Attempt:
    try:
        for stage, seconds in (("starting", START_SECONDS), ("setting up", timeout), ("", timeout)):
            if not messages.poll(seconds):
                return Attempt(failure=f"> {seconds:g} s" + f" {stage}" * bool(stage))
            message = messages.recv()
            if isinstance(message, Attempt):
                return message
    except EOFError:
        return Attempt(failure="its process was ended by the system")
    raise AssertionError("a child sends an Attempt at last")


def _serve(messages: Connection, build: Callable[[], Run], device: str, calls: int, threads: int, limit: int) -> None:
    _silence()
    torch.set_num_threads(threads)
    if limit and device == "cpu":
        # Half of what is free: refused memory is an exception here, and without the limit trouble for the machine
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with contextlib.suppress(BrokenPipeError):
        _wake_libraries(device)
        messages.send("started")
        messages.send(_do(messages, build, device, calls))


def _do(messages: Connection, build: Callable[[], Run], device: str, calls: int) -> Attempt:
    watch, meter = Stopwatch(device), peak_meter(device)
    try:
        before = meter.now()
        run = build()
        messages.send("built")
        for _ in range(calls - 1):
            run()
        meter.reset()
        seconds = watch.time(run)
        return Attempt(seconds, meter.peak() - before)
    except Exception as error:
        return Attempt(failure=_told(error))


def _told(error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate" in text or "out of memory" in text:
        return "does not fit into memory"
    return f"fails: {(text.strip().splitlines() or [type(error).__name__])[0]}"


def _silence() -> None:
    """Let libraries keep their complaints to themselves: what goes wrong is told by the `Attempt`."""
    with open(os.devnull, "w", encoding="ascii") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Keep a new process from repeating the warnings that this one gave while it imported the same."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        yield
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _wake_libraries(device: str) -> None:
    """Have the libraries load and allocate what they keep for ever, which is no network's."""
    layers = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).to(device)
    optimizer = torch.optim.Adam(layers.parameters())
    layers(torch.ones(2, 4, 8, 8, device=device)).sum().backward()
    optimizer.step()
