"""The moment "cores": Adam's entries in the eigenbases of Gram moments, by its definition."""

from __future__ import annotations

import geoopt
import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.optim.moments.cores import FLOOR, REFRESH, SAMPLE
from tests.strategies import random_frame

OUTER, MODE, INNER = 3, 4, 5
BETAS = (0.8, 0.9)
EPS = 1e-8


def _by_definition(outer_first: bool, gradients: torch.Tensor, amsgrad: bool) -> torch.Tensor:
    """Steps of one core, with Kronecker products over the rows."""
    manifold, x = sr.PolarStiefel(), random_frame(OUTER * MODE, INNER, 0)[0]
    first, second, largest = (torch.zeros_like(x) for _ in range(3))
    gram_left, gram_right = torch.zeros(OUTER, OUTER).double(), torch.zeros(INNER, INNER).double()
    left, right = torch.eye(OUTER).double(), torch.eye(INNER).double()
    eye, decay = torch.eye(MODE, dtype=torch.float64), BETAS[1] ** SAMPLE

    def over_rows(matrix: torch.Tensor) -> torch.Tensor:
        return torch.kron(matrix.contiguous(), eye) if outer_first else torch.kron(eye, matrix.contiguous())

    for step, gradient in enumerate(gradients, start=1):
        tangent = manifold.proju(x, gradient)
        first = BETAS[0] * first + (1 - BETAS[0]) * tangent
        core = tangent.view(OUTER, MODE, INNER) if outer_first else tangent.view(MODE, OUTER, INNER).transpose(0, 1)
        if step % SAMPLE == 1:
            gram_left = decay * gram_left + (1 - decay) * torch.einsum("amr,bmr->ab", core, core)
            gram_right = decay * gram_right + (1 - decay) * torch.einsum("amr,ams->rs", core, core)
        if step % REFRESH == 1:
            old = left, right
            left, right = (torch.linalg.eigh(gram).eigenvectors for gram in (gram_left, gram_right))
            mixes = (old[0].T @ left).square(), (old[1].T @ right).square()
            second, largest = (over_rows(mixes[0]).T @ m @ mixes[1] for m in (second, largest))
        basis = over_rows(left)
        second = BETAS[1] * second + (1 - BETAS[1]) * (basis.T @ tangent @ right).square()
        largest = torch.maximum(largest, second)
        divisor = (largest if amsgrad else second) / (1 - BETAS[1] ** step)
        floor = FLOOR * divisor.sqrt().max() + EPS
        turned = basis.T @ first @ right / (1 - BETAS[0] ** step) / (divisor.sqrt() + floor)
        x = manifold.retr(x, -0.01 * manifold.proju(x, basis @ turned @ right.T))
    return x


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("outer_first", [True, False])
def test_steps_are_those_of_the_definition(outer_first: bool, amsgrad: bool) -> None:
    shape = 2 * REFRESH + 5, OUTER * MODE, INNER
    gradients = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = random_frame(OUTER * MODE, INNER, 0)[0]
    point = geoopt.ManifoldParameter(start, manifold=sr.PolarStiefel(OUTER, outer_first))
    optimizer = sr.RiemannianAdam([point], lr=0.01, betas=BETAS, amsgrad=amsgrad, moment="cores")
    for gradient in gradients:
        point.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(point.detach(), _by_definition(outer_first, gradients, amsgrad), rtol=0, atol=1e-10)


def test_equal_shapes_of_other_outer_ranks_step_as_they_do_alone() -> None:
    manifolds = [(1, True), (3, True), (3, False), (4, True), (3, True)]
    starts = [random_frame(12, 5, seed)[0] for seed in range(len(manifolds))]
    gradients = torch.randn(15, len(starts), 12, 5, dtype=torch.float64)
    ends = []
    for together in (True, False):
        points = [
            geoopt.ManifoldParameter(start.clone(), manifold=sr.PolarStiefel(*own))
            for start, own in zip(starts, manifolds, strict=True)
        ]
        lists = [points] if together else [[point] for point in points]
        optimizers = [sr.RiemannianAdam(own, lr=0.01, moment="cores") for own in lists]
        for step in gradients:
            for point, gradient in zip(points, step, strict=True):
                point.grad = gradient.clone()
            for optimizer in optimizers:
                optimizer.step()
        ends.append([point.detach() for point in points])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_frame_without_an_outer_rank_keeps_one_gram_moment() -> None:
    point = geoopt.ManifoldParameter(random_frame(12, 5, 0)[0], manifold=sr.PolarStiefel())
    point.grad = torch.randn_like(point)
    optimizer = sr.RiemannianAdam([point], moment="cores")
    optimizer.step()
    assert {n: tuple(v.shape) for n, v in optimizer.state[point].items() if n != "step"} == {
        "exp_avg": (12, 5),
        "exp_avg_sq": (12, 5),
        "inner_gram": (5, 5),
        "inner_basis": (5, 5),
        "inner_values": (1, 5),
    }


def test_entries_in_one_eigenspace_share_their_second_moment() -> None:
    # The gradient is skew along the first rows: two pairs of equal eigenvalues, and a zero
    start = torch.eye(5, dtype=torch.float64)
    skew = torch.randn(5, 5, dtype=torch.float64)
    point = geoopt.ManifoldParameter(start, manifold=sr.PolarStiefel())
    point.grad = skew - skew.mT
    optimizer = sr.RiemannianAdam([point], moment="cores")
    optimizer.step()
    second = optimizer.state[point]["exp_avg_sq"]
    assert optimizer.state[point]["inner_values"][0, 1:].diff()[[0, 2]].abs().max() < 1e-13
    torch.testing.assert_close(second[:, 1], second[:, 2], rtol=1e-12, atol=0)
    torch.testing.assert_close(second[:, 3], second[:, 4], rtol=1e-12, atol=0)


def test_rounding_errors_of_gradients_without_full_rank_stay_small() -> None:
    """Directions without a gradient hold rounding errors, which Adam entry by entry would make as large as others."""
    ends = []
    for noise in (0.0, 1e-7):
        torch.manual_seed(0)
        layer = sr.reparameterize(torch.nn.Linear(36, 24), 6, init="orthogonal")
        optimizer = sr.RiemannianAdam(layer.parameters(), lr=1e-2, moment="cores")
        x, y = torch.randn(2, 36), torch.randn(2, 24)
        before = layer.weight.detach().clone()
        for _ in range(2 * REFRESH):
            optimizer.zero_grad()
            (layer(x) - y).square().mean().backward()
            for parameter in layer.parameters():
                parameter.grad += noise * parameter.grad.abs().max() * torch.randn(parameter.shape)
            optimizer.step()
        ends.append(layer.weight.detach())
    assert float((ends[0] - ends[1]).norm() / (ends[0] - before).norm()) < 1e-3
