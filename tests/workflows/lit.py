"""A module and a Trainer of Lightning, and the plain loop that does the same arithmetic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sttp_riemann as sr
from tests.workflows.common import Net, optimizer_for, spectral

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

BATCHES, ROWS = 4, 8


def rows(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(BATCHES * ROWS, 24, generator=torch.Generator().manual_seed(5)).to(dtype)


def loader(dtype: torch.dtype = torch.float32) -> DataLoader:
    return DataLoader(TensorDataset(rows(dtype)), batch_size=ROWS)


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x[:, :10].sin()).square().mean()


def network(kind: str) -> nn.Module:
    """The same numbers at every call; dense, or on one of the paths."""
    torch.manual_seed(0)
    return Net() if kind == "dense" else spectral(Net(), kind)


class Lit(pl.LightningModule):
    """As in Lightning's introduction, around a network that is reparameterized when it is made."""

    def __init__(self, frames: str = "riemannian", lr: float = 1e-2, make: Callable | None = None) -> None:
        super().__init__()
        self.save_hyperparameters("frames", "lr")
        self.net, self.make, self.lr = network(frames), make, lr

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss = loss_of(self, batch[0])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        self.log("val", loss_of(self, batch[0]))

    def test_step(self, batch: list[Tensor]) -> None:
        self.log("test", loss_of(self, batch[0]))

    def predict_step(self, batch: list[Tensor]) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        make = self.make or (lambda parameters, lr: optimizer_for(self.hparams.frames, parameters, lr))
        return make(self.parameters(), lr=self.lr)


class Adversaries(pl.LightningModule):
    """Two networks, two optimizers, stepped by hand; reparameterized as a whole."""

    def __init__(self, frames: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.automatic_optimization, self.frames = False, frames
        torch.manual_seed(0)
        self.maker, self.judge = nn.Linear(24, 24), nn.Sequential(nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 1))
        spectral(self.to(dtype), frames)

    def losses(self, x: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        def judged() -> Tensor:
            return nn.functional.softplus(self.judge(self.maker(x).detach()) - self.judge(x)).mean()

        return judged, lambda: nn.functional.softplus(-self.judge(self.maker(x))).mean()

    def training_step(self, batch: list[Tensor]) -> None:
        for optimizer, loss in zip(self.optimizers(), self.losses(batch[0]), strict=True):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(loss())
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [optimizer_for(self.frames, part.parameters(), lr=1e-2) for part in (self.judge, self.maker)]


def trainer(folder: Path, epochs: int = 2, **options: Any) -> pl.Trainer:
    """A Trainer on the CPU that writes nothing but what is asked for."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "num_sanity_val_steps": 0}
    options = {"enable_checkpointing": False, "devices": 1, **quiet, **options}
    return pl.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder, **options)


def plain_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int = 2,
    clip: float | None = None,
    accumulate: int = 1,
    precision: torch.dtype | None = None,
    after: Callable[[], Any] = lambda: None,
    after_epoch: Callable[[], Any] = lambda: None,
) -> nn.Module:
    """What a Trainer does with a `Lit`, by hand."""
    for _ in range(epochs):
        for number, (x,) in enumerate(loader()):
            with torch.autocast("cpu", precision, enabled=precision is not None):
                loss = loss_of(model, x)
            (loss / accumulate).backward()
            if (number + 1) % accumulate == 0:
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
                after()
        after_epoch()
    return model


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    """Bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_frames(model: nn.Module) -> None:
    assert sr.orthogonality_error(model) < 1e-5
