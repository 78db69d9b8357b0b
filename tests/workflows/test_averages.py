"""Running averages of a network that stay networks on the manifold."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import (
    PATHS,
    Net,
    assert_told_is_true,
    frames_of,
    inputs,
    moved,
    optimizer_for,
    spectral,
    train,
    weights_of,
)


def averaged_training(frames: str, steps: int = 20, gauge: str = "left") -> tuple[nn.Module, nn.Module]:
    """A network and its average over some steps; the gauge is left as it is, or fixed on the way."""
    torch.manual_seed(0)
    model = spectral(Net(), frames).double()
    average = sr.averaged(model, 0.9)
    optimizer = optimizer_for(frames, model.parameters(), lr=5e-3)
    if gauge == "by a hook":
        sr.register_gauge_fix(model, optimizer, every=5, average=average)
    for step in range(steps):
        train(model, optimizer, 1, inputs().double())
        average.update(model)
        if gauge == "by a call" and step % 5 == 4:
            sr.gauge_fix(model, optimizer, average)
    return model, average


@PATHS
def test_an_average_is_a_network_on_the_manifold(frames: str) -> None:
    model, average = averaged_training(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = average(inputs().double())
    assert torch.equal(out, average.module(inputs().double()))
    assert not torch.allclose(out, model(inputs().double()), atol=1e-4)
    assert sr.orthogonality_error(average.module) < 1e-5
    assert_told_is_true(average.module)


@PATHS
def test_what_is_no_frame_is_averaged_as_torch_does(frames: str) -> None:
    model = spectral(Net(), frames)
    average = sr.averaged(model, 0.75)
    expected = model.head.bias.detach().clone()
    for value in (1.0, 2.0):
        nn.init.constant_(model.head.bias, value)
        average.update(model)
        # torch's rule too: the first update copies
        expected = model.head.bias.detach().clone() if value == 1.0 else 0.75 * expected + 0.25 * value
    torch.testing.assert_close(average.module.head.bias.detach(), expected)


@PATHS
def test_update_parameters_is_what_update_is(frames: str) -> None:
    model = spectral(Net(), frames)
    averages = [sr.averaged(model, 0.5) for _ in range(2)]
    optimizer = optimizer_for(frames, model.parameters())
    for _ in range(3):
        train(model, optimizer, 1)
        averages[0].update(model)
        averages[1].update_parameters(model)
    assert torch.equal(averages[0](inputs()), averages[1](inputs()))


@pytest.mark.parametrize("gauge", ["by a call", "by a hook"])
def test_fixing_the_gauge_leaves_the_average_where_it_was_going(gauge: str) -> None:
    """An average of frames depends on their gauge: the average must take part in each change of it."""
    plain, fixed = (averaged_training("riemannian", gauge=how)[1].module for how in ("left", gauge))
    for name, weight in weights_of(plain).items():
        torch.testing.assert_close(weights_of(fixed)[name], weight, rtol=0, atol=1e-6)


@PATHS
def test_training_moves_no_average_and_an_average_moves_no_network(frames: str) -> None:
    model = spectral(Net(), frames)
    average = sr.averaged(model, 0.5)
    optimizer = optimizer_for(frames, model.parameters())
    before = weights_of(average.module)
    train(model, optimizer, 2)
    assert moved(before, weights_of(average.module)) == set()
    own = weights_of(model)
    average.update(model)
    assert moved(own, weights_of(model)) == set()
    assert not any(p.requires_grad for p in average.parameters())


@PATHS
def test_an_average_is_saved_loaded_and_copied(frames: str) -> None:
    model, average = averaged_training(frames)
    copied = copy.deepcopy(average)
    loaded = sr.averaged(spectral(Net(), frames, seed=3).double(), 0.9)
    loaded.load_state_dict(average.state_dict())
    with torch.no_grad():
        nn.init.zeros_(model.head.bias)
    for other in (average, copied, loaded):
        other.update(model)
    x = inputs().double()
    assert torch.equal(copied(x), average(x))
    assert torch.equal(loaded(x), average(x))


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        sr.averaged(spectral(Net()), decay)


def test_an_average_of_dtype_bfloat16_keeps_its_frames() -> None:
    model = spectral(Net(), "riemannian").bfloat16()
    average = sr.averaged(model, 0.9)
    average.update(model)
    assert {frame.dtype for frame in frames_of(average.module)} == {torch.float32}
    assert sr.orthogonality_error(average.module) < 1e-5
