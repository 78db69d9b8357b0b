"""One model of the zoo: how it is built small, what it is called with, and how it is built at its published size."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import sttp_riemann as sr

Batch = dict[str, Any] | tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """A model.

    Attributes
    ----------
    package : str
        That has its class.
    name : str
        In the table.
    make : callable
        Builds a small one with random weights.
    batch : callable
        What it is called with: arguments by name or by position.
    published : callable, optional
        Builds one of the size that is published under this name. By default the small one has it.
    register : tuple of str
        Classes of its layers that `sr.register_layer` has to know, each as ``module.Class``.
    size : str
        Of what `published` builds, for the table.
    """

    package: str
    name: str
    make: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    published: Callable[[], nn.Module] | None = None
    register: tuple[str, ...] = ()
    size: str = "published"

    def fresh(self) -> nn.Module:
        """The small model in evaluation; the same weights in every call."""
        torch.manual_seed(0)
        return self.make().eval()

    def known(self) -> None:
        """Register the classes of its layers."""
        for path in self.register:
            module, _, kind = path.rpartition(".")
            sr.register_layer(getattr(importlib.import_module(module), kind))


def images(side: int = 64, count: int = 4, channels: int = 3) -> Tensor:
    """Random images, the same in every call."""
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def words(count: int = 2, length: int = 12, vocabulary: int = 128) -> Tensor:
    """Random tokens, the same in every call, none of them one of the first four, which may be special."""
    return torch.randint(4, vocabulary, (count, length), generator=torch.Generator().manual_seed(1))
