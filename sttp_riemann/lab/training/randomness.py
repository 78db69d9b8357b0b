"""Random numbers of a step."""

from __future__ import annotations

import numpy as np
import torch


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed a step's random numbers from the run's seed, the step and the process alone.

    A resumed run then needs no generator's state, on any number of devices, and what is drawn elsewhere, while
    evaluating, say, changes nothing.
    """
    words = np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)
    # torch takes seeds below 2^63 on every device
    torch.manual_seed(int(words[0] >> np.uint64(1)))
