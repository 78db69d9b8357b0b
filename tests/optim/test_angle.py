"""The largest angle of a step."""

from __future__ import annotations

from typing import Any

import geoopt
import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.optim.moments import MOMENTS
from tests.strategies import random_frame

MAKERS = {
    **{name: lambda p, name=name, **o: sr.RiemannianAdam(p, moment=name, **o) for name in MOMENTS},
    "sgd": lambda p, **o: sr.RiemannianSGD(p, momentum=0.9, **o),
    "nesterov": lambda p, **o: sr.RiemannianSGD(p, momentum=0.9, nesterov=True, **o),
    "plain sgd": lambda p, **o: sr.RiemannianSGD(p, **o),
}


def _angles(name: str, lr: float, rank: int = 4, **options: Any) -> list[float]:
    """Largest principal angle of each of some steps."""
    point = geoopt.ManifoldParameter(random_frame(12, rank, 0, batch=3), manifold=sr.PolarStiefel())
    optimizer = MAKERS[name]([point], lr=lr, **options)
    found = []
    for seed in range(6):
        before = point.detach().clone()
        point.grad = torch.randn(3, 12, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 9))
        optimizer.step()
        # Accurate for small angles, as the arc cosine is not
        beyond = point.detach() - before @ (before.mT @ point.detach())
        found.append(float(torch.linalg.matrix_norm(beyond, 2).clamp_max(1).asin().max()))
    return found


@pytest.mark.parametrize("angle", [1e-3, 0.2, 1.0, 1.5])
@pytest.mark.parametrize("name", MAKERS)
def test_no_step_turns_further(name: str, angle: float) -> None:
    assert max(_angles(name, 1e3)) > 1.5
    found = _angles(name, 1e3, max_angle=angle)
    assert 0.1 * angle < max(found) <= angle * (1 + 1e-9)


@pytest.mark.parametrize("name", MAKERS)
def test_a_single_column_turns_by_just_that_angle(name: str) -> None:
    assert _angles(name, 1e3, rank=1, max_angle=0.3) == pytest.approx([0.3] * 6)


@pytest.mark.parametrize("name", MAKERS)
def test_short_steps_are_as_they_were(name: str) -> None:
    assert _angles(name, 1e-3, max_angle=1.0) == _angles(name, 1e-3)


def test_frames_are_shortened_one_by_one() -> None:
    start = random_frame(12, 4, 0, batch=2)
    gradient = torch.randn(2, 12, 4, dtype=torch.float64)
    gradient[0] *= 1e-4
    ends = []
    for angle in (None, 0.1):
        point = geoopt.ManifoldParameter(start.clone(), manifold=sr.PolarStiefel())
        point.grad = gradient.clone()
        sr.RiemannianSGD([point], lr=1.0, max_angle=angle).step()
        ends.append(point.detach())
    # To rounding: how many iterations a retraction takes is common to a batch
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=0, atol=1e-15)
    assert not torch.allclose(ends[0][1], ends[1][1])
