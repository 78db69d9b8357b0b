"""What the tests of saved models share: models, and what must hold of a file that fits and one that does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.errors import LONGEST, CheckpointError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Tied(nn.Module):
    """An embedding and a head that share a weight, and two modules that share a buffer."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.words, self.middle, self.head = nn.Embedding(20, 12), nn.Linear(12, 12), nn.Linear(12, 20)
        if tied:
            self.head.weight = self.words.weight
        mask = torch.ones(12)
        self.middle.register_buffer("mask", mask)
        self.register_buffer("mask", mask)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.middle(self.words(words) * self.mask))


def pair() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Linear(18, 6))


def assert_same(found: nn.Module, saved: nn.Module) -> None:
    """Equal state, flags, options and settings, in the same order."""
    there, here = saved.state_dict(), found.state_dict()
    assert list(there) == list(here)
    assert all(torch.equal(tensor, here[name]) and tensor.dtype == here[name].dtype for name, tensor in there.items())
    assert [(n, p.requires_grad, type(p)) for n, p in found.named_parameters()] == [
        (n, p.requires_grad, type(p)) for n, p in saved.named_parameters()
    ]
    for name in sr.singular_values(saved):
        own, other = found.get_submodule(name), saved.get_submodule(name)
        for fact in (
            "options",
            "shape",
            "frames",
            "application",
            "recompute",
            "memory",
            "room",
            "dense_error",
            "weight_dtype",
        ):
            assert getattr(own, fact) == getattr(other, fact), fact


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: list[Tensor], steps: int) -> list[Tensor]:
    for _ in range(steps):
        optimizer.zero_grad()
        sum(layer(x).square().mean() for layer, x in zip(model, inputs, strict=True)).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def refused(path: Any, model: nn.Module, match: str) -> None:
    before = (type(model), [type(m) for m in model.modules()], copy.deepcopy(model.state_dict()))
    with pytest.raises(CheckpointError, match=match) as caught:
        sr.load(path, model)
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) <= LONGEST
    assert (type(model), [type(m) for m in model.modules()]) == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before[2].values(), strict=True))


class Own(nn.Linear):
    pass
