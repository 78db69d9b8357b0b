"""A job tried in a process of its own, which may take too long, need too much memory, or be watched for its peak."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sttp_riemann.lab.bench.contest import Run
from sttp_riemann.lab.studies.workers import processes

START_SECONDS = 300.0
"""Importing torch on a busy machine takes its time, which is not the job's."""
# Of glibc's malloc: blocks from so many bytes on are mapped one by one. Otherwise what it keeps between blocks of many
# sizes counts as held, and two measurements differ by a tenth
FREED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "131072"}
_STATUS, _CLEAR, _MACHINE = (Path("/proc") / name for name in ("self/status", "self/clear_refs", "meminfo"))


@dataclass(frozen=True)
class Attempt:
    """What became of a job.

    Attributes
    ----------
    seconds : float
        Of the last call, or those after which it was stopped; NaN if it failed.
    peak : float
        Bytes at the peak of the last call beyond what the process held before the job was set up; NaN if it failed.
    failure : str
        Why there is nothing to show.
    capped : bool
        Whether it was stopped because it ran out of time.
    """

    seconds: float = math.nan
    peak: float = math.nan
    failure: str = ""
    capped: bool = False


def attempt(
    build: Callable[[], Run], device: str, timeout: float, calls: int = 1, freed_at_once: bool = False
) -> Attempt:
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
        How often to call it; the last call is measured.
    freed_at_once : bool
        Whether freed memory goes back to the system at once, where glibc allocates: slower, and exact peaks.

    Returns
    -------
    Attempt
    """
    stages: list[tuple[str, float, Callable[[], Any]]] = [
        (" starting", START_SECONDS, partial(_start, device, torch.get_num_threads(), available_memory() // 2)),
        (" setting up", timeout, partial(_set_up, build, device)),
        ("", timeout, partial(_call, device, calls)),
    ]
    # A new process would repeat the warnings that this one gave while it imported the same
    with _environment(PYTHONWARNINGS="ignore", **FREED_AT_ONCE if freed_at_once else {}), processes(1) as pool:
        for stage, seconds, work in stages:
            try:
                found = pool.submit(work).result(seconds)
            except TimeoutError:
                return Attempt(seconds, failure=f"> {seconds:g} s{stage}", capped=True)
            except BrokenProcessPool:
                return Attempt(failure="its process was ended by the system")
            except Exception as error:
                return Attempt(failure=_told(error))
    return Attempt(*found)


def _told(error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate" in text or "out of memory" in text:
        return "does not fit into memory"
    return f"fails: {(text.strip().splitlines() or [type(error).__name__])[0]}"


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


# What follows runs in the child. Between its stages it keeps the job, and the bytes that it held before it was set up
_KEPT: list[Any] = []


def _start(device: str, threads: int, limit: int) -> None:
    # What goes wrong is in the Attempt; libraries need not complain as well
    with open(os.devnull, "w", encoding="ascii") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    torch.set_num_threads(threads)
    if limit and device == "cpu":
        # Half of what is free: refused memory is an exception here, and without the limit trouble for the machine
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    # Have libraries load and allocate what they keep for ever, which is no network's
    layers = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).to(device)
    optimizer = torch.optim.Adam(layers.parameters())
    layers(torch.ones(2, 4, 8, 8, device=device)).sum().backward()
    optimizer.step()


def _set_up(build: Callable[[], Run], device: str) -> None:
    before = held(device)
    _KEPT[:] = build(), before


def _call(device: str, calls: int) -> tuple[float, float]:
    run, before = _KEPT
    for _ in range(calls - 1):
        run()
    forget_peak(device)
    began = now()
    run()
    return now() - began, peak(device) - before


def now() -> float:
    """Time in seconds, once a GPU in use has done what it was given."""
    # Importing torch.utils.benchmark, whose clock does the same, looks for compilers and warns where there is none
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def held(device: str = "cpu") -> int:
    """Bytes that this process holds: resident ones, or those that torch's CUDA allocator has handed out.

    Code that libraries have loaded from their files is no network's, and not counted where the system tells it.
    """
    gc.collect()
    return int(torch.cuda.memory_allocated()) if device == "cuda" else _resident("VmRSS")


def forget_peak(device: str = "cpu") -> None:
    """Let `peak` begin anew, where the system can."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif _CLEAR.exists():
        _CLEAR.write_text("5", encoding="ascii")


def peak(device: str = "cpu") -> int:
    """Most bytes held since `forget_peak`, or since the process began where the system cannot forget."""
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else _resident("VmHWM")


def _resident(key: str) -> int:
    whole = _bytes(_STATUS, key)
    # Pages of files come and stay, so that there were no more of them at the peak
    return whole - _bytes(_STATUS, "RssFile") if whole else _largest()


def available_memory() -> int:
    """Bytes that a process may take without others having to give way; 0 where the system does not say."""
    return _bytes(_MACHINE, "MemAvailable")


def _bytes(path: Path, key: str) -> int:
    text = path.read_text(encoding="ascii") if path.exists() else ""
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _largest() -> int:
    # macOS counts it in bytes, Linux in kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
