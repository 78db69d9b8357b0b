"""Every kind of layer passes the public check, and kinds that are wrong in one way do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.layers import LAYERS, row_for
from sttp_riemann.layers.linear import SpectralLinear
from sttp_riemann.layers.registered import Registered
from tests.strategies import EXAMPLES, LAYER_KINDS


def test_every_row_has_an_example() -> None:
    found = {type(make()) for make, _ in EXAMPLES.values()}
    assert all(row_for(kind) for kind in found)
    assert found == {kind for kind, row in LAYERS.items() if not issubclass(row, Registered)}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_row_passes(kind: str) -> None:
    make, example = EXAMPLES[kind]
    sr.testing.check_layer(make, *example())


@pytest.mark.parametrize("kind", [k for k in LAYER_KINDS if "grouped" in k or "reflect" in k or "unbatched" in k])
def test_every_variant_passes(kind: str) -> None:
    make, size = LAYER_KINDS[kind]
    sr.testing.check_layer(make, torch.randn(size))


class Halved(SpectralLinear):
    """Computes something else."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) / 2


class Flipped(SpectralLinear):
    """Its two ways between weight and matrix do not fit."""

    @staticmethod
    def to_matrix(weight: Tensor) -> Tensor:
        return weight.flip(0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Halved, "Linear, riemannian frames, sttp, learned: applied as 'auto' its output differs"),
        (Flipped, "Linear: from_matrix does not undo to_matrix"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(kind, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYERS, nn.Linear, kind)
    with pytest.raises(AssertionError, match=message):
        sr.testing.check_layer(lambda: nn.Linear(12, 18), torch.randn(5, 12))


def test_a_layer_without_a_row_is_named() -> None:
    with pytest.raises(AssertionError, match="GRUCell has no row in LAYERS"):
        sr.testing.check_layer(lambda: nn.GRUCell(3, 3), torch.randn(2, 3))
