"""Many calls, one after another or in several processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from typing import Any, TypeVar

from sttp_riemann.errors import RecipeError, ReportedError
from sttp_riemann.lab.plugins import import_installed, import_modules, imported

T = TypeVar("T")


class WorkerError(ReportedError, RuntimeError):
    """A worker process that was killed."""


def spread(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int) -> Iterator[tuple[int, T]]:
    """Call a function with each of many arguments.

    Parameters
    ----------
    function : callable
        One that can be pickled, as must be its arguments and what it gives.
    tasks : sequence of tuple
        Its arguments.
    workers : int
        How many processes share the calls; 1 for none but this one.

    Yields
    ------
    int
        Place in `tasks`, in the order of completion.
    T
        What the function gave.

    Raises
    ------
    RecipeError
        The number of workers is not possible.
    WorkerError
        A worker was killed.
    Exception
        What the function raises; the other calls are then stopped.
    """
    check_workers(workers)
    if workers == 1:
        yield from ((index, function(*task)) for index, task in enumerate(tasks))
        return
    with processes(min(workers, len(tasks))) as pool:
        try:
            futures = {pool.submit(_call, imported(), function, *task): index for index, task in enumerate(tasks)}
            for future in as_completed(futures):
                yield futures[future], future.result()
            pool.shutdown()
        except BrokenProcessPool as error:
            raise WorkerError(
                "a worker was killed, perhaps for want of memory: fewer --workers need less; the same command resumes"
            ) from error


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of so many fresh processes, and in the end stop those that are still working."""
    others = set(active_children())
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - others:
            process.kill()
            process.join()


def check_workers(workers: int) -> None:
    """Refuse a number of workers that is not possible.

    Raises
    ------
    RecipeError
        The message says why.
    """
    if workers < 1:
        raise RecipeError(f"workers must be at least 1, not {workers}")
    if workers > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("workers are for one process at a time: give no --workers where accelerate starts several")


def _call(modules: Sequence[str], function: Callable[..., T], *task: Any) -> T:
    """Call a function in a worker that has the parent's rows."""
    import_installed()
    import_modules(modules)
    return function(*task)


def _begin() -> None:
    """Leave interruptions to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
