"""A module that several threads call at once computes what it does alone."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import PATHS, optimizer_for, spectral, stack, train


@pytest.fixture
def _hasty_switches() -> Iterator[None]:
    """Let threads interrupt one another as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def together(*jobs: Callable[[], None]) -> None:
    """Run all of them at once, and raise what the first that failed raised."""
    gate, failed = threading.Barrier(len(jobs)), []

    def run(job: Callable[[], None]) -> None:
        try:
            gate.wait(timeout=10)
            job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def rows(seed: int) -> torch.Tensor:
    return torch.randn(4, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("_hasty_switches")
@PATHS
def test_threads_with_and_without_gradients_serve_one_model(frames: str) -> None:
    for seed in range(10):
        model = spectral(stack(), frames, seed=seed).eval()
        expected = copy.deepcopy(model)

        def serve(index: int, model: nn.Module = model, expected: nn.Module = expected) -> None:
            x = rows(index)
            with torch.inference_mode() if index % 2 else torch.enable_grad():
                for _ in range(3):
                    out = model(x)
                    assert out.requires_grad == (index % 2 == 0)
            with torch.no_grad():
                torch.testing.assert_close(out.detach(), copy.deepcopy(expected)(x), rtol=1e-5, atol=1e-6)

        together(*(lambda index=index: serve(index) for index in range(6)))


@pytest.mark.usefixtures("_hasty_switches")
@PATHS
def test_gradients_of_several_threads_are_their_own(frames: str) -> None:
    model = spectral(stack(), frames)
    parameters = list(model.parameters())

    def gradients(index: int) -> list[torch.Tensor]:
        return list(torch.autograd.grad(model(rows(index)).square().mean(), parameters))

    expected = [gradients(index) for index in range(4)]
    found: dict[int, list[torch.Tensor]] = {}

    def work(index: int) -> None:
        for _ in range(5):
            found[index] = gradients(index)

    together(*(lambda index=index: work(index) for index in range(4)))
    for index, grads in enumerate(expected):
        torch.testing.assert_close(found[index], grads, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("_hasty_switches")
@PATHS
def test_inference_beside_training_changes_no_loss(frames: str) -> None:
    losses = []
    for served in (False, True):
        torch.manual_seed(0)
        model = spectral(stack(), frames)
        optimizer, ended = optimizer_for(frames, model.parameters()), threading.Event()

        def learn(model: nn.Module = model, optimizer=optimizer, ended: threading.Event = ended) -> None:
            try:
                losses.append(train(model, optimizer, 15))
            finally:
                ended.set()

        def serve(model: nn.Module = model, ended: threading.Event = ended) -> None:
            with torch.inference_mode():
                while not ended.is_set():
                    assert model(rows(0)).isfinite().all()

        together(learn, *([serve] * served))
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


@pytest.mark.usefixtures("_hasty_switches")
@PATHS
def test_what_one_thread_caches_no_other_sees(frames: str) -> None:
    model = spectral(stack(), frames)
    x, before = rows(0), model(rows(0)).detach()
    inside, changed = threading.Event(), threading.Event()

    def cache() -> None:
        with sr.cached(model):
            torch.testing.assert_close(model(x).detach(), before)
            inside.set()
            assert changed.wait(timeout=10)
            assert model(x).isfinite().all()

    def change() -> None:
        assert inside.wait(timeout=10)
        with torch.no_grad():
            model[0].bias.add_(1.0)
            model[2].spectrum.mul_(torch.linspace(0.1, 1.0, len(model[2].spectrum)))
        try:
            torch.testing.assert_close(model(x).detach(), copy.deepcopy(model)(x).detach())
        finally:
            changed.set()

    together(cache, change)
