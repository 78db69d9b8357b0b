"""What each of two processes does; `conftest.two_processes` starts them once, and tests look at what they wrote."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.workflows.common import FRAMES, Net, inputs, of_kind, optimizer_for, trained

STEPS = 20


def made(kind: str) -> nn.Module:
    """The same network in every process."""
    torch.manual_seed(0)
    return of_kind(kind, Net(), **({} if kind == "dense" else {"spectrum": "free"}))


def learn(model: nn.Module, kind: str, x: Tensor, **options: Any) -> Tensor:
    """What the network makes of all inputs after some steps on these."""
    optimizer = optimizer_for(kind, model.parameters(), lr=1e-3, **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    return model(inputs()).detach()


def sharded(kind: str, where: str) -> nn.Module:
    model = made(kind)
    if where == "layer":
        for layer in (model.backbone[0], model.backbone[2], model.head):
            fully_shard(layer)
    fully_shard(model)
    return model


def broadcast(rank: int, kind: str) -> Tensor:
    """What a network computes once it was used and then got the parameters of process 0."""
    model = made(kind)
    if rank == 0:
        trained(model, kind)
    model(inputs())
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), 0)
    return model(inputs()).detach()


def train_ddp(kind: str, x: Tensor, **options: Any) -> Tensor:
    """Outputs after training."""
    return learn(DistributedDataParallel(made(kind)), kind, x, **options)


def train_sharded(kind: str, where: str, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs after training, and the whole state."""
    model = sharded(kind, where)
    out = learn(model, kind, x)
    return out, get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def jobs(rank: int) -> dict[str, Callable[[], Any]]:
    """By name, what the tests ask for."""
    own = inputs().chunk(2)[rank]
    found: dict[str, Callable[[], Any]] = {}
    for kind in FRAMES:
        found[f"broadcast {kind}"] = partial(broadcast, rank, kind)
        found[f"ddp {kind}"] = partial(train_ddp, kind, own)
    found["ddp riemannian matrix"] = partial(train_ddp, "riemannian", own, moment="matrix")
    for where in ("layer", "root"):
        for kind in ("dense", *FRAMES):
            found[f"fsdp {kind} {where}"] = partial(train_sharded, kind, where, own)
    return found


def result(job: Callable[[], Any]) -> Any:
    """What comes of a job; an error as its line."""
    try:
        return job()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def work(rank: int, port: str, folder: Path, shared: list[Tensor]) -> None:
    """Run one of the two processes."""
    torch.set_num_threads(1)
    if rank == 0:
        for tensor in shared:  # hogwild: another process writes into the parameters
            tensor.mul_(-1.0)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    torch.save({name: result(job) for name, job in jobs(rank).items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
