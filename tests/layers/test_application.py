"""Every way of applying a layer gives the same, and the choice follows the input's size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sttp_riemann as sr
from sttp_riemann.layers.application import Workload, choose, train_plan
from sttp_riemann.trains.shape import layer_shape
from tests.strategies import FRAMES, METHODS, SEEDS, SPECTRA


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), METHODS, FRAMES, SPECTRA, SEEDS)
def test_a_linear_layer_core_by_core_is_the_layer(
    d_in: int, d_out: int, rank: int, method: str, frames: str, spectrum: str, seed: int
) -> None:
    layer = sr.reparameterize(nn.Linear(d_in, d_out).double(), rank, method, frames, spectrum, "orthogonal", seed=seed)
    x = torch.randn(3, 2, d_in, dtype=torch.float64, requires_grad=True)
    results = []
    for application in ("weight", "factored", "train"):
        layer.application = application
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b)


def test_the_cheapest_application_depends_on_the_size_of_the_input() -> None:
    shape = layer_shape(4096, (4096,), 64)
    kinds = ("factored", "weight", "train")
    assert choose(shape, Workload(1, 1, 1, 4096, 4096), kinds) == "train"
    assert choose(shape, Workload(10**4, 10**4, 10**4, 4096, 4096), kinds) == "factored"
    full = layer_shape(64, (64,), 64)
    assert choose(full, Workload(10**4, 10**4, 10**4, 64, 64), kinds) == "weight"


def test_what_a_backward_computes_again_counts() -> None:
    shape, kinds = layer_shape(64, (64,), 32), ("factored", "weight", "train")
    work = Workload(256, 256, 256, 64, 64)
    assert choose(shape, work, kinds) == "factored"
    assert choose(shape, replace(work, again=True), kinds) == "weight"
    layer = sr.reparameterize(nn.Linear(64, 64), 32)
    for room, chosen in ((1e6, "factored"), (0.0, "weight"), (1e6, "factored")):
        layer.room = room
        assert layer.choose(torch.randn(256, 64)) == chosen


def test_the_plan_costs_what_the_cheapest_order_costs() -> None:
    """Two matrices and a vector: rows * d_in * r and rows * r * d_out multiply-adds, and scaling."""
    shape = layer_shape(30, (20,), 5, "svdp")
    assert train_plan(shape, 2).multiply_adds == pytest.approx(2 * 20 * 5 + 2 * 5 * 30, rel=0.1)


@pytest.mark.parametrize("application", ["train", "dense"])
def test_an_application_that_a_layer_has_not_is_refused(application: str) -> None:
    layer = sr.reparameterize(nn.Conv2d(4, 4, 3), 2)
    layer.application = application
    with pytest.raises(
        ValueError, match=f"a Conv2d cannot be applied as '{application}'; choose one of auto, factored"
    ):
        layer(torch.randn(1, 4, 5, 5))
