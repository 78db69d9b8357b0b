from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

import sttp_riemann as sr
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import RESULT, Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints
from tests.conftest import TINY


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def worker(rank: int, world: int, port: str, recipe: Recipe, folder: Path) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()})
    trainer = Trainer(recipe, folder)
    trainer.run()
    model = trainer.task.players["classifier"].model
    torch.save(model.state_dict(), folder / f"rank{rank}.pt")
    weights = sr.decompress(model) if recipe.network.method != "dense" else model
    torch.save(weights.state_dict(), folder / f"weights{rank}.pt")
    torch.distributed.destroy_process_group()


def together(recipe: Recipe, folder: Path, world: int) -> Path:
    torch.multiprocessing.spawn(worker, (world, free_port(), recipe, folder), nprocs=world)
    return folder


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def largest_difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    return max((one[name].double() - two[name].double()).abs().max().item() for name in one)


# Adam divides by the size of the gradient, and that of a learned spectrum is a difference of nearly equal numbers, in
# which rounding shows; so that one takes smaller steps.
@pytest.mark.slow
@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize(
    ("method", "optimizer", "spectrum", "lr"),
    [
        ("sttp", "adam", "free", 1e-3),
        ("sttp", "adam", "identity", 1e-3),
        ("sttp", "adam", "learned", 3e-4),
        ("sttp", "sgd", "learned", 1e-2),
        ("svdp", "sgd", "free", 1e-3),
        ("svdp", "sgd", "learned", 1e-2),
    ],
)
def test_two_processes_train_what_one_does(method, optimizer, spectrum, lr, frames, tiny, tmp_path):
    fields = {"method": method, "optimizer": optimizer, "spectrum": spectrum, "frames": frames}
    recipe = tiny(**fields, steps=50, gauge_fix_every=20, evaluate_every=50, lr=lr)
    one = together(recipe, tmp_path / "one", 1)
    two = together(recipe, tmp_path / "two", 2)
    assert largest_difference(load(two / "rank0.pt"), load(two / "rank1.pt")) == 0
    assert largest_difference(load(one / "weights0.pt"), load(two / "weights0.pt")) < 1e-5


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Recipe, Path]:
    """A run of two processes."""
    recipe = Recipe().changed(**{**TINY, "ema": 0.5, "accumulate": 2, "steps": 4, "evaluate_every": 2})
    return recipe, together(recipe, tmp_path_factory.mktemp("two"), 2)


def test_two_processes_stay_equal_to_the_bit(ended):
    _, folder = ended
    assert largest_difference(load(folder / "rank0.pt"), load(folder / "rank1.pt")) == 0


def test_one_of_two_processes_writes_what_one_process_goes_on_with(ended):
    recipe, folder = ended
    (path,) = checkpoints(folder)
    trainer = Trainer(recipe, folder)
    found = trainer.task.players["classifier"].model.state_dict()
    stored = load_checkpoint(path).part("model.classifier")
    assert all(torch.equal(found[name], tensor) for name, tensor in stored.items())
    assert (folder / RESULT).exists()
