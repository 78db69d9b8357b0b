from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from sttp_riemann.lab import plugins
from sttp_riemann.lab.training.recipe import Recipe

# What is started in the background of a shell ignores interruptions, and so would all that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers with as many threads as there are cores would mostly wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

TINY = {
    "data": "digits",
    "network_options": {"width": 8, "depth": 1},
    "rank": 4,
    "steps": 6,
    "batch_size": 32,
    "evaluate_every": 3,
    "checkpoint_every": 2,
    "gauge_fix_every": 2,
    "lr": 1e-2,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Draw the same random numbers in every run of a test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """A recipe of a run that takes a fraction of a second, with any of its fields changed."""

    def make(**changes: Any) -> Recipe:
        return Recipe().changed(**{**TINY, **changes})

    return make


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own for the digits classifier, which is trained once a session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTP_RIEMANN_CACHE", str(folder))
        yield folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write modules of a user's own into the working directory; a test leaves none imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(plugins, "_imported", [])
    written: list[str] = []

    def write(**modules: str) -> Path:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(dedent(text))
            written.append(name)
        return tmp_path

    yield write
    for name in written:
        sys.modules.pop(name, None)
