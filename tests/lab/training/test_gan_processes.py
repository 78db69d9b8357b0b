"""Penalties on gradients where two processes share a batch, in parts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import sttp_riemann as sr
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.gan_penalties import gradient_penalty
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.testing.models import disturb_
from tests.lab.training.test_gan_penalties import discriminator, images
from tests.lab.training.test_processes import free_port

KINDS = ("dense", "riemannian", "householder")
PENALTIES = {"r1": 1.0, "r2": 0.5}


def made(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = discriminator()
    if kind != "dense":
        sr.reparameterize(model, 3, frames=kind, init="orthogonal")
        disturb_(model)
    return model


def loss_of(model: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    places = {"real": real.detach().requires_grad_(), "fake": fake.detach().requires_grad_()}
    scores = model(torch.cat([*places.values()]))
    return LOSSES["relativistic"].discriminator(*scores.chunk(2)) + gradient_penalty(scores, places, PENALTIES)


def batch() -> tuple[Tensor, Tensor]:
    found = images(8)
    return found["real"], found["fake"]


def work(rank: int, port: str, recipe: Recipe, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    trainer = Trainer(recipe, folder / "run")
    trainer.run()
    states = {name: player.model.state_dict() for name, player in trainer.task.players.items()}
    gradients = {}
    for kind in KINDS:
        model = made(kind)
        shared = DistributedDataParallel(model)
        first, last = zip(*(each.chunk(4)[2 * rank : 2 * rank + 2] for each in batch()), strict=True)
        with shared.no_sync():
            (loss_of(shared, *first) / 2).backward()
        (loss_of(shared, *last) / 2).backward()
        gradients[kind] = {name: p.grad.as_subclass(Tensor) for name, p in model.named_parameters()}
    torch.save((states, gradients), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By process: the networks of a run, and gradients of a batch whose quarters the two processes had in turn."""
    from tests.lab.training.conftest import TINY_GAN

    folder = tmp_path_factory.mktemp("two")
    changes = {"gan_loss": "relativistic", "gradient_penalty": {"r1": 1.0, "wgan_gp": 2.0}, "accumulate": 2}
    recipe = Recipe().changed(**{**TINY_GAN, **changes})
    torch.multiprocessing.spawn(work, (free_port(), recipe, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_train_the_same_networks_under_penalties(found):
    (one, _), (two, _) = found
    for player in ("discriminator", "generator"):
        for name, tensor in one[player].items():
            assert torch.equal(tensor, two[player][name]), (player, name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_two_processes_is_that_of_the_whole_batch(kind, found):
    model = made(kind)
    loss_of(model, *batch()).backward()
    for name, p in model.named_parameters():
        for _, gradients in found:
            torch.testing.assert_close(gradients[kind][name], p.grad.as_subclass(Tensor), rtol=1e-9, atol=1e-12)
