"""A small network whose ranks change, for tests of several modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.testing.models import layers_of


def dense_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(36, 24), nn.Tanh(), nn.Linear(24, 16)).double()


def network(seed: int = 0, rank: int = 4, **options: Any) -> nn.Sequential:
    torch.manual_seed(seed)
    model = dense_network()
    sr.reparameterize(model, rank, seed=seed, **options)
    with torch.no_grad():
        for layer in layers_of(model):
            layer.spectrum.copy_(torch.linspace(1, 0.3, layer.rank))
    return model


def loss_of(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x, y = (torch.randn(48, n, dtype=torch.float64, generator=generator) for n in (36, 16))
    return (model(x) - y).square().mean()


def train_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    with sr.weight_gradients(model) as gradients:
        loss_of(model, 99).backward()
    model.zero_grad()
    return gradients
