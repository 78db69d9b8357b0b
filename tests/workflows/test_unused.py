"""What took no part in a forward has no gradient, so that nothing moves it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from tests.workflows.common import KINDS, PATHS, moved, of_kind, optimizer_for, spectral, weights_of


class Heads(nn.Module):
    """Two equal heads on one trunk, one of them used at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(24, 32)
        self.heads = nn.ModuleDict({"a": nn.Linear(32, 10), "b": nn.Linear(32, 10)})

    def forward(self, x: Tensor, head: str) -> Tensor:
        return self.heads[head](self.trunk(x).tanh())


def learn(model: Heads, optimizer: torch.optim.Optimizer, head: str, steps: int = 8) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(8, 24), head) - 1).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@KINDS
def test_a_head_that_nobody_uses_stays_where_it_is(kind: str, decay: float) -> None:
    model = of_kind(kind, Heads())
    optimizer = optimizer_for(kind, model.parameters())
    for group in optimizer.param_groups:
        group["weight_decay"] = decay
    learn(model, optimizer, "a")
    before = [p.detach().clone() for p in (model.heads["a"].weight, *model.heads["a"].parameters())]
    learn(model, optimizer, "b")
    after = (model.heads["a"].weight, *model.heads["a"].parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@KINDS
def test_gradients_of_what_was_not_used_are_none(kind: str) -> None:
    model = of_kind(kind, Heads())
    model(torch.randn(8, 24), "b").sum().backward()
    unused = list(model.heads["a"].parameters())
    assert len(unused) > 1
    assert all(p.grad is None for p in unused)
    assert all(p.grad is not None for p in (*model.heads["b"].parameters(), *model.trunk.parameters()))


@PATHS
def test_an_output_that_is_thrown_away_gives_no_gradient(frames: str) -> None:
    """The layer was called, so its W was built, but the loss does not see it."""
    model = spectral(nn.ModuleList([nn.Linear(32, 10), nn.Linear(32, 10)]), frames)
    x = torch.randn(8, 32)
    with sr.cached(model):
        used, thrown_away = model[0](x), model[1](x)
        assert thrown_away.requires_grad
        used.square().mean().backward()
    assert all(p.grad is None for p in model[1].parameters())
    assert all(p.grad is not None for p in model[0].parameters())


@pytest.mark.parametrize("head", ["a", "b"])
@PATHS
def test_sgd_with_momentum_moves_only_what_was_used(frames: str, head: str) -> None:
    model = spectral(Heads(), frames)
    kind = sr.RiemannianSGD if frames == "riemannian" else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=1e-2, momentum=0.9)
    learn(model, optimizer, "a")
    learn(model, optimizer, "b")
    before = weights_of(model)
    learn(model, optimizer, head)
    assert moved(before, weights_of(model)) == {"trunk", f"heads.{head}"}
