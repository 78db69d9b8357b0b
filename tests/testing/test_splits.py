"""Every kind of module that is split passes the public check, and kinds that are wrong in one way do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.layers import SPLITS, Split
from tests.strategies import SPLIT_EXAMPLES


def test_every_row_has_an_example() -> None:
    assert {type(make()) for make, _ in SPLIT_EXAMPLES.values()} == set(SPLITS)


@pytest.mark.parametrize("kind", SPLIT_EXAMPLES)
def test_every_row_passes(kind: str) -> None:
    make, example = SPLIT_EXAMPLES[kind]
    sr.testing.check_split(make, *example())


class Gated(nn.Module):
    """A module of one's own with two matrices in one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.randn(10, 4))

    def forward(self, x: Tensor) -> Tensor:
        gate, value = nn.functional.linear(x, self.both).chunk(2, -1)
        return gate.sigmoid() * value


class SplitGated(Split, Gated):
    ordinary = Gated

    @classmethod
    def pieces_of(cls, module: Any) -> dict[str, tuple[str, ...]]:
        return {"both": ("gate", "value")}


class Swapped(SplitGated):
    """Joins its matrices in another order."""

    def joined(self, name: str) -> Tensor:
        return super().joined(name).roll(5, 0)


class Detached(SplitGated):
    """Loses gradients."""

    def joined(self, name: str) -> Tensor:
        return super().joined(name).detach().requires_grad_()


def test_a_kind_of_ones_own_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPLITS, Gated, SplitGated)
    sr.testing.check_split(Gated, torch.randn(3, 4))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Swapped, "Gated: both is not joined as it was split"),
        (Detached, "riemannian frames: gate does not get the gradient of both"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(kind: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPLITS, Gated, kind)
    with pytest.raises(AssertionError, match=message):
        sr.testing.check_split(Gated, torch.randn(3, 4))


def test_a_module_without_a_row_is_named() -> None:
    with pytest.raises(AssertionError, match="LayerNorm has no row in SPLITS"):
        sr.testing.check_split(lambda: nn.LayerNorm(3), torch.randn(2, 3))
