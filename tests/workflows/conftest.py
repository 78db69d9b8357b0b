from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from tests.workflows.common import FRAMES, inputs, spectral, stack
from tests.workflows.two_processes import free_port, work


class Ended(NamedTuple):
    """What two processes left: results by rank, and networks that one of them wrote into, with their outputs before."""

    ranks: list[dict[str, Any]]
    shared: dict[str, nn.Module]
    before: dict[str, Tensor]


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Two gloo processes, started once for all tests: starting takes longer than what they do."""
    folder = tmp_path_factory.mktemp("two")
    shared = {frames: spectral(stack(), frames).share_memory() for frames in FRAMES}
    before = {frames: model(inputs()).detach() for frames, model in shared.items()}
    # With the other sign, a frame is one still
    written = [p.detach() for model in shared.values() for p in model.parameters()]
    torch.multiprocessing.spawn(work, (free_port(), folder, written), nprocs=2)
    return Ended([torch.load(folder / f"{rank}.pt") for rank in (0, 1)], shared, before)
