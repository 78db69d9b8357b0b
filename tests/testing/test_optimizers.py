"""Every optimizer for frames passes the public check, and optimizers that are wrong in one way do not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import geoopt
import pytest
import torch

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS

PAIRS = {
    "adam": (sr.RiemannianAdam, torch.optim.Adam, {}),
    "adam without its first moment": (sr.RiemannianAdam, torch.optim.Adam, {"betas": (0.0, 0.9)}),
    "amsgrad": (sr.RiemannianAdam, torch.optim.Adam, {"amsgrad": True}),
    "polar": (partial(sr.RiemannianAdam, moment="polar"), torch.optim.Adam, {}),
    "cores": (partial(sr.RiemannianAdam, moment="cores"), torch.optim.Adam, {}),
    "cores without the first moment": (
        partial(sr.RiemannianAdam, moment="cores"),
        torch.optim.Adam,
        {"betas": (0.0, 0.9), "amsgrad": True},
    ),
    "decoupled": (
        partial(sr.RiemannianAdam, decoupled_weight_decay=True),
        torch.optim.AdamW,
        {"weight_decay": 0.1},
    ),
    "no large angles": (partial(sr.RiemannianAdam, max_angle=5e-3), torch.optim.Adam, {}),
    "sgd": (sr.RiemannianSGD, torch.optim.SGD, {}),
    "sgd without large angles": (partial(sr.RiemannianSGD, max_angle=5e-4), torch.optim.SGD, {}),
    "sgd with momentum": (sr.RiemannianSGD, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (sr.RiemannianSGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_option_passes(name: str) -> None:
    ours, torchs, options = PAIRS[name]
    sr.testing.check_optimizer(lambda p: ours(p, lr=1e-2, **options), lambda p: torchs(p, lr=1e-2, **options))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_row_of_the_laboratory_passes(name: str) -> None:
    row = OPTIMIZERS[name]
    sr.testing.check_optimizer(lambda p: row.riemannian(p, lr=1e-2), lambda p: row.plain(p, lr=1e-2))


class Silent(sr.RiemannianSGD):
    """Leaves out what it should refuse."""

    def step(self, closure: Any = None) -> Any:
        with suppress(ValueError):
            return super().step(closure)


class Forgetful(sr.RiemannianSGD):
    """Leaves its momentum out of the state."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "state": {}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.Adam(p, lr=1e-2), "weights depend on the gauge: after 16 steps"),
        (lambda p: torch.optim.SGD(p, lr=1e-2), "frames leave their manifold"),
        (lambda p: sr.RiemannianSGD(p, lr=0.0), "weights do not move"),
        (lambda p: Silent(p, lr=1e-2, momentum=0.9), "a gradient that holds nan is not refused"),
        (lambda p: Forgetful(p, lr=1e-2, momentum=0.9), "training does not resume bit for bit after load_state_dict"),
    ],
)
@pytest.mark.filterwarnings("ignore:frames")
def test_what_is_wrong_is_named_in_one_line(make: Callable[[Any], torch.optim.Optimizer], message: str) -> None:
    with pytest.raises(AssertionError, match=message) as raised:
        sr.testing.check_optimizer(make)
    assert "\n" not in str(raised.value)


def test_plain_parameters_are_compared_with_the_same_options() -> None:
    with pytest.raises(AssertionError, match="plain parameters do not move as SGD moves them"):
        sr.testing.check_optimizer(lambda p: sr.RiemannianSGD(p, lr=1e-2), lambda p: torch.optim.SGD(p, lr=2e-2))


def test_geoopts_adam_commutes_with_the_gauge() -> None:
    with pytest.raises(AssertionError) as raised:
        sr.testing.check_optimizer(lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2))
    assert "gauge" not in str(raised.value)
