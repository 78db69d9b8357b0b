"""Progress of long work: a bar in a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

EVERY = 30.0
"""Seconds between two lines."""


class Lines:
    """What stands for a bar where there is no terminal: a line on standard error every half minute.

    Parameters
    ----------
    total : int
        How much there is to do.
    desc, unit : str
        What is done, and what it is counted in.
    initial : int
        How much is done already.
    """

    def __init__(self, total: int, desc: str, unit: str, initial: int = 0) -> None:
        self.total, self.desc, self.unit, self.n = total, desc, unit, initial
        self._start, self._told = time.monotonic(), ""
        self._ended = threading.Event()
        threading.Thread(target=self._tell, daemon=True).start()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def __str__(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        return f"{self.desc}: {self.unit} {self.n} of {self.total} after {minutes}:{seconds:02d} min{self._told}"

    def update(self, n: int = 1) -> None:
        """Count what was done."""
        self.n += n

    def set_postfix(self, figures: Mapping[str, float]) -> None:
        """Tell of figures in the next lines."""
        self._told = "".join(f", {name} {value:.4g}" for name, value in figures.items())

    def _tell(self) -> None:
        while not self._ended.wait(EVERY):
            print(self, file=sys.stderr, flush=True)


def progress(total: int, desc: str, unit: str, initial: int = 0, leave: bool = True) -> Lines | tqdm[Any]:
    """Give a bar where standard error is a terminal, and lines elsewhere; both count in a ``with``.

    Parameters
    ----------
    total : int
        How much there is to do.
    desc, unit : str
        What is done, and what it is counted in.
    initial : int
        How much is done already.
    leave : bool
        Whether the bar stays when all is done.

    Returns
    -------
    Lines or tqdm
    """
    if not sys.stderr.isatty():
        return Lines(total, desc, unit, initial)
    return tqdm(total=total, initial=initial, desc=desc, unit=unit, leave=leave)
