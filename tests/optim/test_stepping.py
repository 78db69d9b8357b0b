from __future__ import annotations

import geoopt
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import sttp_riemann as sr
from tests.strategies import random_frame


def frames(count: int) -> list[geoopt.ManifoldParameter]:
    points = random_frame(6, 3, seed=0, batch=count, dtype=torch.float32)
    return [geoopt.ManifoldParameter(point.clone(), manifold=sr.PolarStiefel()) for point in points]


def stacks_of(points):
    """What one step would take together."""
    optimizer = sr.RiemannianAdam(points)
    optimizer._settle()
    return optimizer._equal(optimizer.param_groups[0])


def rows_of_one(points, order) -> torch.Tensor:
    """Gradients as a backward leaves them: rows of one tensor, in the order of its batch."""
    whole = torch.randn(len(points), 6, 3, generator=torch.Generator().manual_seed(1))
    for row, place in zip(whole.unbind(), order, strict=True):
        points[place].grad = row
    return whole


def test_frames_are_stepped_in_the_order_in_which_their_gradients_lie_in_one_tensor():
    points = frames(4)
    whole = rows_of_one(points, (2, 0, 3, 1))
    (stack,) = stacks_of(points)
    assert [id(p) for p in stack.points] == [id(points[i]) for i in (2, 0, 3, 1)]
    assert stack.together.data_ptr() == whole.data_ptr()


def test_frames_whose_gradients_lie_apart_are_stepped_in_the_order_of_the_parameters():
    points = frames(4)
    for point, room in zip(reversed(points), torch.randn(4, 2, 6, 3).unbind(), strict=True):
        point.grad = room[0]
    (stack,) = stacks_of(points)
    assert [id(p) for p in stack.points] == [id(p) for p in points]
    assert stack.together is None


@pytest.mark.parametrize("optimizer", [sr.RiemannianAdam, sr.RiemannianSGD])
def test_how_gradients_lie_changes_no_step_beyond_rounding(optimizer):
    together, apart = frames(5), frames(5)
    steps = optimizer(together, lr=0.1), optimizer(apart, lr=0.1)
    for _ in range(3):
        rows_of_one(together, (4, 2, 0, 1, 3))
        for one, other in zip(together, apart, strict=True):
            other.grad = one.grad.clone()
        for step in steps:
            step.step()
    torch.testing.assert_close([p.detach() for p in together], [p.detach() for p in apart], rtol=0, atol=1e-6)


def test_a_gradient_among_others_in_one_tensor_is_named_where_it_is_not_finite():
    points = frames(3)
    rows_of_one(points, (2, 0, 1))
    points[1].grad[0, 0] = float("nan")
    before = [p.detach().clone() for p in points]
    with pytest.raises(ValueError, match="parameter number 1 of group 0"):
        sr.RiemannianAdam(points, lr=0.1).step()
    assert all(torch.equal(p, q) for p, q in zip(points, before, strict=True))


def test_frames_that_change_their_dtype_or_their_class_between_steps_are_sorted_anew():
    points = frames(3)
    plain = torch.nn.Parameter(sr.PolarStiefel().projx(torch.randn(6, 3)))
    optimizer = sr.RiemannianAdam([*points, plain], lr=0.1)
    for point in (*points, plain):
        point.grad = torch.ones(6, 3)
    optimizer.step()
    points[0].data = points[0].data.double()
    points[0].grad = torch.ones(6, 3, dtype=torch.float64)
    optimizer.state.clear()
    plain.data = sr.PolarStiefel().projx(plain.data)
    plain.__class__, plain.manifold = geoopt.ManifoldParameter, sr.PolarStiefel()
    optimizer.step()
    assert points[0].dtype == torch.float64
    for point in (*points, plain):
        torch.testing.assert_close(point.mT @ point, torch.eye(3, dtype=point.dtype), rtol=0, atol=1e-5)


def test_cores_of_other_trains_are_stepped_together_until_the_moment_depends_on_the_outer_rank():
    points = frames(2)
    points[1].manifold = sr.PolarStiefel(outer=2)
    rows_of_one(points, (0, 1))
    optimizer = sr.RiemannianAdam(points, moment="matrix")
    optimizer._settle()
    (group,) = optimizer.param_groups
    assert [len(stack.points) for stack in optimizer._equal(group)] == [2]
    group["moment"] = None
    assert [len(stack.points) for stack in optimizer._equal(group)] == [1, 1]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 3, 0, 2)])
def test_cores_of_both_sides_are_stepped_together_those_of_the_left_first(order):
    points = frames(4)
    for point, left in zip(points, (False, True, False, True), strict=True):
        point.manifold = sr.PolarStiefel(outer=2, outer_first=left)
    whole = rows_of_one(points, order)
    (stack,) = stacks_of(points)
    assert [id(p) for p in stack.points] == [id(points[i]) for i in (1, 3, 0, 2)]
    assert stack.leading == 2
    assert (stack.together is not None and stack.together.data_ptr() == whole.data_ptr()) == (order == (1, 3, 0, 2))


@pytest.mark.parametrize("optimizer", [sr.RiemannianAdam, sr.RiemannianSGD])
def test_hooks_on_steps_are_called_once_a_step(optimizer):
    (point,), plain, calls = frames(1), torch.nn.Parameter(torch.ones(3)), []
    handle = register_optimizer_step_post_hook(lambda *_: calls.append(1))
    step = optimizer([point, plain], lr=0.1)
    for _ in range(3):
        point.grad, plain.grad = torch.ones(6, 3), torch.ones(3)
        step.step()
    handle.remove()
    assert calls == [1, 1, 1]
