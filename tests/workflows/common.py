"""Small networks on both paths, and what every test of a workflow asks of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr

FRAMES = ("riemannian", "householder")
PATHS = pytest.mark.parametrize("frames", FRAMES)
VARIANTS = pytest.mark.parametrize(("method", "frames"), [(m, f) for m in ("sttp", "svdp") for f in FRAMES])
KINDS = pytest.mark.parametrize("kind", ["dense", *FRAMES])


class Net(nn.Module):
    """A backbone of two layers and a head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh())
        self.head = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def inputs(rows: int = 8) -> Tensor:
    return torch.randn(rows, 24, generator=torch.Generator().manual_seed(5))


def stack() -> nn.Sequential:
    """Layers in a row, two of them of one shape."""
    return nn.Sequential(
        nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 10)
    )


def spectral(model: nn.Module, frames: str = "riemannian", rank: Any = 8, **options: Any) -> nn.Module:
    return sr.reparameterize(model, rank=rank, frames=frames, init="orthogonal", **options)


def of_kind(kind: str, model: nn.Module, **options: Any) -> nn.Module:
    """The model as it is, or on one of the paths."""
    return model if kind == "dense" else spectral(model, kind, **options)


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    return {name: model.get_submodule(name) for name in sr.singular_values(model)}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Every weight of a Linear, convolution or Embedding, spectral or dense."""
    kinds = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {n: m.weight.detach().clone() for n, m in model.named_modules() if isinstance(m, kinds)}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the weights that are no longer the same."""
    return {name for name, weight in before.items() if not torch.allclose(weight, after[name], rtol=0, atol=1e-6)}


def optimizer_for(kind: str, parameters: Iterable[Any], lr: float = 1e-2, **options: Any) -> torch.optim.Optimizer:
    """Our optimizer on Riemannian frames, torch's elsewhere."""
    return (sr.RiemannianAdam if kind == "riemannian" else torch.optim.Adam)(parameters, lr=lr, **options)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, x: Tensor | None = None, lag: float = 1.0
) -> list[float]:
    """Losses of some steps towards a constant."""
    x = inputs() if x is None else x
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - lag).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(model: nn.Module, kind: str, steps: int = 3) -> nn.Module:
    train(model, optimizer_for(kind, model.parameters()), steps)
    return model


def meant(model: nn.Module, x: Tensor | None = None) -> Tensor:
    """What the numbers that the model holds now stand for: the output of a copy, which remembers nothing."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that frames are off is for the model itself to say
        return copy.deepcopy(model)(inputs() if x is None else x)


def true_singular_values(layer: Any) -> Tensor:
    """Of W as a matrix, as many as the layer tells, descending."""
    return torch.linalg.svdvals(layer.weight.detach().flatten(1).double())[: layer.rank]


def assert_told_is_true(model: nn.Module, atol: float = 1e-4) -> None:
    """`singular_values` tells what W has."""
    for name, told in sr.singular_values(model).items():
        true = true_singular_values(model.get_submodule(name) if name else model)
        torch.testing.assert_close(told.double(), true, rtol=1e-3, atol=atol)


def frames_of(model: nn.Module) -> list[nn.Parameter]:
    """Every core of a model's layers."""
    return [
        core for layer in layers_of(model).values() for side in (layer.left, layer.right) for core in side.parameters()
    ]


def assert_same_outputs(a: Callable[[Tensor], Tensor], b: Callable[[Tensor], Tensor], x: Tensor | None = None) -> None:
    x = inputs() if x is None else x
    with torch.no_grad():
        torch.testing.assert_close(a(x), b(x), rtol=1e-5, atol=1e-5)
