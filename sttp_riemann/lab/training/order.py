"""Randomness of a run, all of it from the recipe's seed: the order of examples, the random numbers of a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class DataOrder:
    """Endless stream of example indices: one random permutation after another, every batch full.

    Parameters
    ----------
    size : int
        Number of examples.
    batch_size : int
        Examples per batch, all processes together.
    seed : int
        Seed of the order; independent of the global random state.

    Raises
    ------
    ValueError
        There are no examples.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("the data has no training examples")
        self.size, self.batch_size = size, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._queue = torch.empty(0, dtype=torch.int64)

    def draw(self) -> Tensor:
        """Draw the indices of the next batch (batch_size,)."""
        while len(self._queue) < self.batch_size:
            self._queue = torch.cat([self._queue, torch.randperm(self.size, generator=self._generator)])
        batch, self._queue = self._queue[: self.batch_size], self._queue[self.batch_size :]
        return batch

    def state(self) -> dict[str, Tensor]:
        """State that determines all further draws, as tensors."""
        return {"queue": self._queue, "generator": self._generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Resume from a `state`.

        Raises
        ------
        ValueError
            It belongs to other data.
        """
        queue = state["queue"]
        if queue.dtype != torch.int64 or queue.ndim != 1 or bool(((queue < 0) | (queue >= self.size)).any()):
            raise ValueError(f"the data order is not one of {self.size} examples")
        self._queue = queue
        self._generator.set_state(state["generator"])


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed a step's random numbers from the run's seed, the step and the process alone.

    A resumed run then needs no generator's state, on any number of devices, and draws elsewhere, such as while
    evaluating, change nothing.
    """
    words = np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)
    # torch takes seeds below 2^63 on every device
    torch.manual_seed(int(words[0] >> np.uint64(1)))
