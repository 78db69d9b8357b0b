"""Whoever writes the parameters, and however, W in memory follows."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import sttp_riemann as sr
from tests.workflows.common import PATHS, VARIANTS, Net, inputs, meant, optimizer_for, spectral, train, trained

OPTIMIZERS = {
    "Adam": (torch.optim.Adam, {"lr": 1e-2}),
    "AdamW": (torch.optim.AdamW, {"lr": 1e-2}),
    "SGD": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 1e-2}),
}


@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_optimizer_trains_householder_frames_as_the_unfused_one(name: str, method: str) -> None:
    make, options = OPTIMIZERS[name]
    losses = []
    for fused in (False, True):
        model = spectral(seeded(), "householder", method=method)
        losses.append(train(model, make(model.parameters(), **options, fused=fused), 50))
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-5)
    assert losses[0][-1] < 0.5 * losses[0][0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_w_follows_riemannian_frames_that_a_fused_optimizer_moves_and_the_user_is_warned(name: str) -> None:
    make, options = OPTIMIZERS[name]
    model = spectral(seeded(), "riemannian")
    optimizer = make(model.parameters(), **options, fused=True)

    def follow() -> None:
        for _ in range(20):
            train(model, optimizer, 1)
            torch.testing.assert_close(model(inputs()).detach(), meant(model), rtol=1e-5, atol=1e-5)

    with pytest.warns(UserWarning, match=r"sr\.project"):
        follow()


@PATHS
def test_our_optimizer_trains_both_paths_without_a_warning(frames: str) -> None:
    model = spectral(seeded(), frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = train(model, sr.RiemannianAdam(model.parameters(), lr=1e-2), 50)
    assert losses[-1] < 0.5 * losses[0]


def by_vector(target: nn.Module, source: nn.Module) -> None:
    vector_to_parameters(parameters_to_vector(source.parameters()).detach().clone(), target.parameters())


def by_data_copy(target: nn.Module, source: nn.Module) -> None:
    for a, b in zip(target.parameters(), source.parameters(), strict=True):
        a.data.copy_(b.data)


def by_new_data(target: nn.Module, source: nn.Module) -> None:
    for a, b in zip(target.parameters(), source.parameters(), strict=True):
        a.data = b.data.clone()


def by_foreach(target: nn.Module, source: nn.Module) -> None:
    """As the average of diffusers copies itself into a network."""
    torch._foreach_copy_([p.data for p in target.parameters()], [p.data for p in source.parameters()])


def by_numpy(target: nn.Module, source: nn.Module) -> None:
    for a, b in zip(target.parameters(), source.parameters(), strict=True):
        a.detach().numpy()[...] = b.detach().numpy()


WRITERS = pytest.mark.parametrize("write", [by_vector, by_data_copy, by_new_data, by_foreach, by_numpy])


@WRITERS
@VARIANTS
def test_a_model_computes_with_what_was_written_into_its_parameters(
    write: Callable[[nn.Module, nn.Module], None], method: str, frames: str
) -> None:
    target = spectral(seeded(), frames, method=method)
    source = trained(copy.deepcopy(target), frames)
    before = target(inputs())
    write(target, source)
    after = target(inputs())
    assert not torch.allclose(after, before, atol=1e-4)
    assert torch.equal(after, source(inputs()))


@WRITERS
@PATHS
def test_gradients_too_are_those_of_what_was_written(
    write: Callable[[nn.Module, nn.Module], None], frames: str
) -> None:
    target = spectral(seeded(), frames)
    source = trained(copy.deepcopy(target), frames)
    target(inputs()).square().mean().backward()
    write(target, source)
    for model in (target, source):
        model.zero_grad()
        model(inputs()).square().mean().backward()
    for a, b in zip(target.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-7)


@PATHS
def test_an_average_of_the_parameters_is_swapped_in_and_out(frames: str) -> None:
    """Store, copy_to, evaluate, restore: what trainers of diffusion models do around an evaluation."""
    model = spectral(seeded(), frames)
    average = trained(copy.deepcopy(model), frames)
    stored = [p.detach().clone() for p in model.parameters()]
    before = model(inputs())
    by_data_copy(model, average)
    assert torch.equal(model(inputs()), average(inputs()))
    for p, own in zip(model.parameters(), stored, strict=True):
        p.data.copy_(own)
    assert torch.equal(model(inputs()), before)


@PATHS
def test_an_evaluation_between_two_steps_changes_nothing(frames: str) -> None:
    losses = []
    for evaluate in (False, True):
        model = spectral(seeded(), frames)
        optimizer = optimizer_for(frames, model.parameters())
        for _ in range(5):
            losses.append(train(model, optimizer, 1)[0])
            if evaluate:
                with torch.inference_mode():
                    model.eval()(inputs(3))
                model.train()
    assert losses[:5] == losses[5:]


def seeded() -> Net:
    torch.manual_seed(0)
    return Net()
