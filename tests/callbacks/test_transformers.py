"""The callback for transformers' Trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import PATHS
from tests.workflows.test_hf import Classifier, classifier, ours, trainer

__all__ = ["trainer"]


@pytest.fixture
def callback() -> type:
    from sttp_riemann.callbacks.transformers import SpectralCallback

    return SpectralCallback


def _entries(run: Any) -> list[dict[str, float]]:
    return [entry for entry in run.state.log_history if "spectral/chart_margin" in entry]


@PATHS
def test_it_logs_frames_and_spectra_as_the_verbs_measure_them(frames: str, trainer: Callable, callback: type) -> None:
    model = classifier(frames)
    run = trainer(model, 6, **ours(model, frames))
    run.add_callback(callback(run, gauge_fix_every=0, log_every=2))
    run.train()
    assert [entry["step"] for entry in _entries(run)] == [2, 4, 6]
    last = {name.removeprefix("spectral/"): value for name, value in _entries(run)[-1].items()}
    assert last["orthogonality_error"] == sr.orthogonality_error(model)
    assert last["chart_margin"] == sr.chart_margin(model)
    values = torch.cat([*sr.singular_values(model).values()])
    assert (last["largest_singular_value"], last["smallest_singular_value"]) == (values.max(), values.min())


@PATHS
def test_it_logs_where_the_trainer_logs_unless_told_otherwise(frames: str, trainer: Callable, callback: type) -> None:
    model = classifier(frames)
    run = trainer(model, 3, **ours(model, frames))
    run.add_callback(callback(run))
    run.train()
    assert [entry["step"] for entry in _entries(run)] == [1, 2, 3]
    quiet = trainer(model, 3, **ours(model, frames))
    quiet.add_callback(callback(quiet, log_every=0))
    quiet.train()
    assert not _entries(quiet)


def test_it_fixes_the_gauge_and_w_goes_where_it_would_go_without(trainer: Callable, callback: type) -> None:
    ends = []
    for every in (0, 3):
        model = classifier("riemannian").double()
        run = trainer(model, 9, **ours(model, "riemannian"))
        run.train_dataset.x = run.train_dataset.x.double()
        run.add_callback(callback(run, gauge_fix_every=every, log_every=0))
        run.train()
        ends.append(model)
    for plain, fixed in zip(ends[0].children(), ends[1].children(), strict=True):
        torch.testing.assert_close(plain.weight, fixed.weight, rtol=0, atol=1e-9)
    first = ends[1].a.left[0].detach()
    assert float(first.tril(-1)[: first.shape[1]].abs().max()) < 1e-12
    assert float(ends[0].a.left[0].detach().tril(-1)[: first.shape[1]].abs().max()) > 1e-3


def test_a_model_without_frames_is_refused(trainer: Callable, callback: type) -> None:
    with pytest.raises(ValueError, match="no reparameterized layer; call reparameterize first"):
        callback(trainer(Classifier()))


@pytest.mark.parametrize(
    "options", [{"gauge_fix_every": -1}, {"gauge_fix_every": 0.5}, {"log_every": -2}, {"margin": 2.0}]
)
def test_options_out_of_range_are_refused(options: dict, trainer: Callable, callback: type, tmp_path: Path) -> None:
    run = trainer(sr.reparameterize(nn.Sequential(nn.Linear(8, 8)), 2))
    with pytest.raises(ValueError, match=next(iter(options))):
        callback(run, **options)
