from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.training.order import DataOrder, seed_step


def test_every_example_comes_once_before_any_comes_again():
    order = DataOrder(size=10, batch_size=4, seed=0)
    drawn = torch.cat([order.draw() for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == list(range(10))
    assert sorted(drawn[10:].tolist()) == list(range(10))


def test_a_batch_may_be_larger_than_the_data():
    assert len(DataOrder(size=3, batch_size=8, seed=0).draw()) == 8


def test_the_order_is_the_seeds_and_nothing_elses():
    first = DataOrder(100, 7, seed=1).draw()
    torch.manual_seed(5)
    assert torch.equal(DataOrder(100, 7, seed=1).draw(), first)
    assert not torch.equal(DataOrder(100, 7, seed=2).draw(), first)


def test_a_restored_order_goes_on_where_it_was_taken():
    order, other = DataOrder(10, 4, seed=0), DataOrder(10, 4, seed=9)
    order.draw()
    other.restore({name: tensor.clone() for name, tensor in order.state().items()})
    assert [order.draw().tolist() for _ in range(6)] == [other.draw().tolist() for _ in range(6)]


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="no training examples"):
        DataOrder(0, 4, seed=0)


@pytest.mark.parametrize("queue", [torch.tensor([10]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor(3)])
def test_an_order_of_other_data_is_refused(queue):
    order = DataOrder(10, 4, seed=0)
    with pytest.raises(ValueError, match="not one of 10 examples"):
        order.restore({**order.state(), "queue": queue})


def numbers(*key: int) -> list[float]:
    seed_step(*key)
    return torch.rand(3).tolist()


def test_a_step_draws_the_same_numbers_again_whatever_was_drawn_before():
    first = numbers(1, 2, 0)
    torch.rand(100)
    assert numbers(1, 2, 0) == first


@pytest.mark.parametrize("other", [(2, 2, 0), (1, 3, 0), (1, 2, 1), (2, 1, 0)])
def test_seed_step_and_process_each_change_the_numbers(other):
    assert numbers(*other) != numbers(1, 2, 0)
