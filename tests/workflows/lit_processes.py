"""What each of two processes does with Lightning's Trainer; `test_lightning` starts them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from sttp_riemann.callbacks.lightning import SpectralCallback
from tests.workflows.common import FRAMES
from tests.workflows.lit import ROWS, Adversaries, Lit, rows, trainer


def half(rank: int) -> DataLoader:
    """Every second row, so that both processes together see batches of 16 rows; Lightning's own sampler shuffles."""
    own = TensorDataset(rows())
    return DataLoader(own, batch_size=ROWS, sampler=DistributedSampler(own, 2, rank, shuffle=False))


def fit(module: Any, strategy: str, rank: int, folder: Path, **options: Any) -> dict[str, Tensor]:
    options |= {"devices": 2, "strategy": strategy, "plugins": [TorchElasticEnvironment()]}
    trainer(folder, callbacks=[SpectralCallback(gauge_fix_every=2)], **options).fit(module, half(rank))
    return module.state_dict()


def work(rank: int, port: str, folder: Path) -> None:
    """Run one of the two processes."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    found = {frames: fit(Lit(frames), "ddp", rank, folder) for frames in FRAMES}
    found |= {f"{frames} in float64": fit(Lit(frames), "ddp", rank, folder, precision="64-true") for frames in FRAMES}
    unused = "ddp_find_unused_parameters_true"
    found |= {f"{frames} by hand": fit(Adversaries(frames), unused, rank, folder) for frames in FRAMES}
    torch.save(found, folder / f"{rank}.pt")
