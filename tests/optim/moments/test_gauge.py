"""Every moment commutes with gauge moves, also where eigenvalues coincide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.optim.moments import MOMENTS
from sttp_riemann.testing.models import gap, turn_, weights_of

STEPS = 25
KINDS = sorted(MOMENTS)
SAME = 1e-12


def _network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(36, 24), nn.Tanh(), nn.Linear(24, 16)).double()
    return sr.reparameterize(model, 6, init="orthogonal", **options)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, silent: int = 0) -> None:
    """Fit noise, a new one in every step; the first steps have a gradient of zero."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        d_in, d_out = model[0].in_features, model[-1].out_features
        x, y = (torch.randn(48, n, dtype=torch.float64, generator=generator) for n in (d_in, d_out))
        optimizer.zero_grad()
        ((model(x) - y).square().mean() * (step >= silent)).backward()
        optimizer.step()


def _straight_and_moved(model: Any, moment: str, moves: tuple[int, ...], silent: int = 0, **options: Any) -> float:
    """Distance of weights without gauge moves and with some before the given steps."""
    ends = []
    for own in ((), moves):
        network = model()
        optimizer = sr.RiemannianAdam(network.parameters(), lr=1e-2, moment=moment, **options)
        begin = 0
        for step in own:
            _train(network, optimizer, range(begin, step), silent)
            turn_(network, step, optimizer)
            begin = step
        _train(network, optimizer, range(begin, STEPS), silent)
        ends.append(weights_of(network))
    assert gap(ends[0], weights_of(model())) > 1e-3
    return gap(*ends)


@pytest.mark.parametrize("spectrum", ["learned", "identity"])
@pytest.mark.parametrize("moment", KINDS)
def test_random_moves_in_the_middle_of_training_change_no_weight(moment: str, spectrum: str) -> None:
    assert _straight_and_moved(lambda: _network(spectrum=spectrum), moment, (0, 3, 10, 18)) < SAME


@pytest.mark.parametrize(
    "options", [{"amsgrad": True}, {"match_adam": False, "betas": (0.0, 0.9)}, {"max_angle": 0.02}]
)
@pytest.mark.parametrize("moment", KINDS)
def test_nor_do_they_with_other_options(moment: str, options: dict) -> None:
    assert _straight_and_moved(_network, moment, (0, 3, 10, 18), **options) < SAME


@pytest.mark.parametrize("moment", KINDS)
def test_nor_do_they_where_gradients_were_zero_at_first(moment: str) -> None:
    assert _straight_and_moved(_network, moment, (0, 3, 10, 18), silent=4) < SAME


@pytest.mark.parametrize("moment", KINDS)
def test_nor_do_they_where_a_core_is_square(moment: str) -> None:
    # Tangents of the core (4, 2, 8) are skew, so eigenvalues of their Gram matrix come in pairs
    def network() -> nn.Module:
        torch.manual_seed(0)
        return sr.reparameterize(nn.Sequential(nn.Linear(64, 8)).double(), 8, init="orthogonal")

    assert _straight_and_moved(network, moment, (0, 3, 10, 18)) < SAME


@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@pytest.mark.parametrize("moment", KINDS)
def test_fixing_the_gauge_changes_no_weight_that_follows(moment: str, spectrum: str) -> None:
    ends = []
    for every in (0, 5):
        network = _network(spectrum=spectrum)
        optimizer = sr.RiemannianAdam(network.parameters(), lr=1e-2, moment=moment)
        if every:
            sr.register_gauge_fix(network, optimizer, every)
        _train(network, optimizer, range(STEPS))
        ends.append(weights_of(network))
    assert gap(*ends) < SAME
