"""Small models with adapters, for tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.layers import Adapted
from tests.model.saving import pair
from tests.strategies import disturb

ROWS = torch.randn(8, 12, generator=torch.Generator().manual_seed(4))
STARTS = pytest.mark.parametrize("start", ["zero", "pissa", "gradient"])


def loss_of(model: nn.Module) -> Tensor:
    return (model(ROWS.to(next(model.parameters()).dtype)) - 1).square().sum()


def made(start: str = "zero", dtype: torch.dtype = torch.float32, **options: Any) -> nn.Sequential:
    """Two adapted layers; the gradient is there where the start needs it."""
    torch.manual_seed(0)
    model = pair().to(dtype)
    if start == "gradient":
        loss_of(model).backward()
    return sr.adapt(model, rank=3, start=start, **options)


def moved(model: nn.Module, scale: float = 0.3) -> nn.Module:
    """Adapters in a generic position, and all else as it was."""
    for layer in adapters(model).values():
        for own in (layer.left, layer.right):
            disturb(own, 1, scale)
        with torch.no_grad():
            layer.spectrum.add_(torch.linspace(-scale, scale, layer.rank))
    return model


def adapters(model: nn.Module) -> dict[str, Adapted]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Adapted)}


def weights(model: nn.Module) -> list[Tensor]:
    return [layer.weight.detach().clone() for layer in adapters(model).values()]


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs().max() / expected.abs().max()).detach())
