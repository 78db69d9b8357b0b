from __future__ import annotations

import pytest


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def work(self, *seconds: float):
        """What takes so long, each call the next of these, and the last of them ever after."""
        remaining = list(seconds)

        def run() -> None:
            self.seconds += remaining.pop(0) if len(remaining) > 1 else remaining[0]

        return run


@pytest.fixture
def clock() -> Clock:
    return Clock()
