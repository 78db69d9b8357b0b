"""Every penalty passes the public check, and penalties that are wrong in one way do not."""

from __future__ import annotations

import pytest
import torch

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.trains.spectrum import PENALTIES


@pytest.mark.parametrize("name", PENALTIES)
def test_every_row_passes(name: str) -> None:
    sr.testing.check_penalty(PENALTIES[name])


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (lambda values, bounds: torch.cat(list(values)).mean(), "depends on the signs of values"),
        (lambda values, bounds: sum(v[0].abs() for v in values), "depends on the order of values"),
        (lambda values, bounds: values[0].abs().sum(), "depends on the order of layers"),
        (lambda values, bounds: torch.cat(list(values)).abs(), "gives no scalar tensor"),
        (lambda values, bounds: torch.cat(list(values)).detach().abs().mean(), "has no gradient"),
        (lambda values, bounds: torch.cat([v.abs() * v.detach().abs() for v in values]).mean(), "another gradient"),
        (lambda values, bounds: torch.cat(list(values)).abs().mean() * float("nan"), "is nan"),
        (lambda values, bounds: torch.cat([v.square_() for v in values]).sum(), "changes the values"),
        (
            lambda values, bounds: sum((v.abs().sort().values.diff() ** 2).sum().sqrt() for v in values),
            "all values are",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(penalty, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        sr.testing.check_penalty(penalty)
