"""Best score so far, and early stopping."""

from __future__ import annotations

from collections.abc import Sequence


def is_best(scores: Sequence[float]) -> bool:
    """Whether the last of these scores is better than all before."""
    return all(scores[-1] > score for score in scores[:-1])


def is_stuck(scores: Sequence[float], patience: int) -> bool:
    """Whether none of the last `patience` scores is better than the best before them; never for a patience of 0."""
    if patience == 0 or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
