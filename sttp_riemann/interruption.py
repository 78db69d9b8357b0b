"""Ctrl-C while the command line is still importing torch, which takes seconds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

PACKAGE, COMMAND = "sttp_riemann", "sttp-riemann"
INTERRUPTED = 130


def end_while_importing() -> None:
    """Let Ctrl-C end this process without a traceback until `raise_from_now_on`, if this is the command line."""
    if _is_ours(sys.orig_argv[1:]) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_from_now_on() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_ours(arguments: Sequence[str]) -> bool:
    """Whether Python was started as ``sttp-riemann`` or with ``-m sttp_riemann``, not imported by a user's program."""
    for number, text in enumerate(arguments):
        if text == "-m":
            return list(arguments[number + 1 : number + 2]) == [PACKAGE]
        if not text.startswith("-"):
            return Path(text).name == COMMAND
    return False


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"sttp-riemann: stopped\n")
    os._exit(INTERRUPTED)
