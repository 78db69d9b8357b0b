"""Results live for one forward of the model, or as long as the user says."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import sttp_riemann as sr
from tests.workflows.common import PATHS, Net, inputs, meant, optimizer_for, spectral, train


class Counter(TorchDispatchMode):
    """Counts operators."""

    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def counted(model: nn.Module) -> int:
    """How many operators a forward takes."""
    with Counter() as counter:
        model(inputs())
    return counter.calls


@PATHS
def test_inside_cached_a_second_forward_builds_nothing_and_outside_each_builds(frames: str) -> None:
    model = spectral(Net(), frames)
    for _ in range(8):  # frames are looked after at the first forwards and then more and more seldom
        model(inputs())
    alone = counted(model)
    assert counted(model) == alone
    with sr.cached(model):
        assert counted(model) <= alone
        assert counted(model) < alone
    assert counted(model) == alone


@PATHS
def test_losses_of_two_batches_add_up_inside_cached(frames: str) -> None:
    """Real and fake batches of a GAN's discriminator, with a backward each or one together."""
    model, (real, fake) = spectral(Net(), frames), (inputs(), -inputs(5))
    twin = copy.deepcopy(model)
    ((1 - twin(real)).relu().mean() + (1 + twin(fake)).relu().mean()).backward()
    for together in (True, False):
        model.zero_grad()
        with sr.cached(model):
            if together:
                ((1 - model(real)).relu().mean() + (1 + model(fake)).relu().mean()).backward()
            else:
                (1 - model(real)).relu().mean().backward()
                (1 + model(fake)).relu().mean().backward()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


@PATHS
def test_what_changed_inside_cached_is_seen_after_it(frames: str) -> None:
    model = spectral(Net(), frames)
    optimizer = optimizer_for(frames, model.parameters())
    with sr.cached(model):
        before = model(inputs()).detach()
        train(model, optimizer, 1)
    after = model(inputs()).detach()
    assert not torch.allclose(after, before, atol=1e-4)
    torch.testing.assert_close(after, meant(model))


def in_a_forward(model: nn.Module) -> None:
    model(inputs())


def inside_cached(model: nn.Module) -> None:
    with sr.cached(model):
        model(inputs())


@pytest.mark.parametrize("attempt", [in_a_forward, inside_cached])
@PATHS
def test_an_error_leaves_nothing_behind(frames: str, attempt: Callable[[nn.Module], None]) -> None:
    model = spectral(Net(), frames)
    handle = model.head.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attempt(model)
    handle.remove()
    before = model(inputs()).detach()
    for p in model.parameters():
        p.data.neg_()  # with the other sign, a frame is one still
    after = model(inputs()).detach()
    assert not torch.allclose(after, before, atol=1e-4)
    torch.testing.assert_close(after, meant(model))


@PATHS
def test_without_gradients_then_with_them_inside_cached(frames: str) -> None:
    model = spectral(Net(), frames)
    with sr.cached(model):
        with torch.no_grad():
            assert not model(inputs()).requires_grad
        with torch.inference_mode():
            model(inputs())
        model(inputs()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@PATHS
def test_copies_and_pickles_made_inside_cached_are_models_of_their_own(frames: str) -> None:
    model = spectral(Net(), frames)
    with sr.cached(model):
        before = model(inputs()).detach()
        copied = copy.deepcopy(model)
        with torch.no_grad():
            copied.head.bias.add_(1.0)
            nn.init.zeros_(copied.backbone[0].bias)
        assert not torch.allclose(copied(inputs()), before, atol=1e-4)
        torch.testing.assert_close(model(inputs()).detach(), before)
