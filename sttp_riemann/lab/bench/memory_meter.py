"""How much memory a process holds, and held at most."""

from __future__ import annotations

import gc
import re
import resource
import sys
from pathlib import Path
from typing import Protocol

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_MACHINE = Path("/proc/meminfo")
_RESET_PEAK = "5"


class PeakMeter(Protocol):
    """Bytes held now, and the most since the last reset."""

    def now(self) -> int:
        """Bytes held."""

    def reset(self) -> None:
        """Forget the peak so far."""

    def peak(self) -> int:
        """Most bytes held since the reset."""


class ResidentMeter:
    """Resident memory of this process, as the system counts it."""

    def now(self) -> int:
        """Bytes held."""
        gc.collect()
        return _kilobytes(_STATUS, "VmRSS") or _largest()

    def reset(self) -> None:
        """Forget the peak so far, where the system can."""
        gc.collect()
        if _CLEAR.exists():
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")

    def peak(self) -> int:
        """Most bytes held since the reset, or since the process began where there is none."""
        return _kilobytes(_STATUS, "VmHWM") or _largest()


class CudaMeter:
    """Memory that torch's CUDA allocator has handed out."""

    def now(self) -> int:
        """Bytes held."""
        return int(torch.cuda.memory_allocated())

    def reset(self) -> None:
        """Forget the peak so far."""
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Most bytes held since the reset."""
        return int(torch.cuda.max_memory_allocated())


def peak_meter(device: str) -> PeakMeter:
    """Meter for the memory in which a device computes."""
    return CudaMeter() if device == "cuda" else ResidentMeter()


def available_memory() -> int:
    """Bytes that a process may take without others having to give way; 0 where the system does not tell."""
    return _kilobytes(_MACHINE, "MemAvailable")


def _kilobytes(path: Path, key: str) -> int:
    if not path.exists():
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _largest() -> int:
    # macOS counts it in bytes, Linux in kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
