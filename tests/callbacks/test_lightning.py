"""The callbacks for Lightning's Trainer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import PATHS, optimizer_for, weights_of

pytest.importorskip("lightning")

import lightning.pytorch as pl
from lightning.pytorch import callbacks as lightnings
from lightning.pytorch.loggers import CSVLogger

from sttp_riemann.callbacks.lightning import FrameAveraging, SpectralCallback
from tests.workflows.lit import (
    BATCHES,
    Adversaries,
    Lit,
    assert_frames,
    assert_same_state,
    loader,
    network,
    plain_loop,
    trainer,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*(workers|logging interval|LeafSpec|no `val_dataloader`).*")
FIGURES = ("orthogonality_error", "chart_margin", "largest_singular_value", "smallest_singular_value")


class Measured(pl.Callback):
    """The same figures by the verbs, at each step."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        values = torch.cat([*sr.singular_values(pl_module).values()])
        spectra = float(values.max()), float(values.min())
        self.rows.append([sr.orthogonality_error(pl_module), sr.chart_margin(pl_module), *spectra])


def logged(folder: Path) -> dict[int, list[float]]:
    """By step, what Lightning has written."""
    lines = (folder / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    entries = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    found = {int(own["step"]): [own.get(f"spectral/{name}", "") for name in FIGURES] for own in entries}
    return {step: [float(value) for value in own] for step, own in found.items() if all(own)}


@pytest.mark.parametrize(
    ("kind", "options", "steps"),
    [
        ("riemannian", {"log_every_n_steps": 2}, [1, 3, 5, 7]),
        ("householder", {"log_every_n_steps": 3}, [2, 5]),
        ("riemannian", {"log_every_n_steps": 2, "accumulate_grad_batches": 2}, [1, 3]),
        ("by hand", {"log_every_n_steps": 3}, [2, 5]),
    ],
)
def test_it_logs_what_the_verbs_measure_where_lightning_logs(
    kind: str, options: dict, steps: list[int], tmp_path: Path
) -> None:
    module = Adversaries("riemannian") if kind == "by hand" else Lit(kind)
    measured = Measured()
    options |= {"callbacks": [SpectralCallback(gauge_fix_every=2), measured], "logger": CSVLogger(tmp_path)}
    trainer(tmp_path, **options).fit(module, loader())
    found, share = logged(tmp_path), options.get("accumulate_grad_batches", 1)
    assert list(found) == steps
    for step in steps:
        torch.testing.assert_close(found[step], measured.rows[(step + 1) * share - 1], rtol=1e-6, atol=0)


def test_it_logs_nothing_if_told_so(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1, callbacks=[SpectralCallback(log=False)], log_every_n_steps=1)
    run.fit(Lit(), loader())
    assert not any(name.startswith("spectral/") for name in run.callback_metrics)


def test_a_callback_may_monitor_what_it_logs(tmp_path: Path) -> None:
    stop = lightnings.EarlyStopping("spectral/chart_margin", mode="max", stopping_threshold=0.0)
    run = trainer(tmp_path, 3, callbacks=[SpectralCallback(), stop], log_every_n_steps=1)
    module = Lit()
    run.fit(module, loader())
    assert run.current_epoch == 1
    assert run.callback_metrics["spectral/chart_margin"].item() == pytest.approx(sr.chart_margin(module))


def ends(tmp_path: Path, make: Any, **options: Any) -> list[nn.Module]:
    """Without gauge fixing and with it, in double."""
    found = []
    for every in (0, 3):
        module = make()
        callback = SpectralCallback(gauge_fix_every=every, log=False)
        trainer(tmp_path, callbacks=[callback], precision="64-true", **options).fit(module, loader(torch.float64))
        found.append(module)
    return found


def below_the_diagonal(layer: Any) -> float:
    first = layer.left[0].detach()
    return float(first.tril(-1)[: first.shape[1]].abs().max())


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}])
def test_it_fixes_the_gauge_and_w_goes_where_it_would_go_without(options: dict, tmp_path: Path) -> None:
    plain, fixed = ends(tmp_path, Lit, epochs=3, **options)
    for name, weight in weights_of(plain).items():
        torch.testing.assert_close(weights_of(fixed)[name], weight, rtol=0, atol=1e-9)
    assert below_the_diagonal(fixed.net.backbone[0]) < 1e-12
    assert below_the_diagonal(plain.net.backbone[0]) > 1e-3


class Alternating(Adversaries):
    """One optimizer steps at every batch; gradients of the other's network wait for three of them."""

    def training_step(self, batch: list[torch.Tensor]) -> None:
        (judge, maker), (judged, made) = self.optimizers(), self.losses(batch[0])
        self.manual_backward(made())
        judge.zero_grad()
        self.manual_backward(judged())
        judge.step()
        if self.trainer.fit_loop.total_batch_idx % 3 == 2:
            maker.step()
            maker.zero_grad()


@pytest.mark.parametrize("kind", [Adversaries, Alternating])
def test_moments_of_several_optimizers_and_gradients_that_wait_move_along(kind: type, tmp_path: Path) -> None:
    plain, fixed = ends(tmp_path, lambda: kind("riemannian", torch.float64), epochs=3)
    for name, weight in weights_of(plain).items():
        torch.testing.assert_close(weights_of(fixed)[name], weight, rtol=0, atol=1e-9)
    assert below_the_diagonal(plain.maker) > 1e-3


@pytest.mark.parametrize("with_average", [False, True])
@PATHS
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(frames: str, with_average: bool, tmp_path: Path) -> None:
    def run(epochs: int, folder: str, path: str | None = None, **options: Any) -> Any:
        averages = [FrameAveraging(0.5)] if with_average else []
        saving = lightnings.ModelCheckpoint(tmp_path / folder, save_last=True)
        own = [SpectralCallback(gauge_fix_every=3), *averages, saving]
        made = trainer(tmp_path, epochs, enable_checkpointing=True, callbacks=own, **options)
        made.fit(Lit(frames), loader(), ckpt_path=path)
        return made

    whole = run(4, "whole")
    run(2, "broken")
    resumed = run(4, "resumed", str(tmp_path / "broken" / "last.ckpt"))
    assert resumed.global_step == whole.global_step == 4 * BATCHES
    assert_same_state(resumed.lightning_module, whole.lightning_module)
    assert_frames(whole.lightning_module)


@PATHS
def test_an_average_is_that_of_averaged_and_stays_on_the_manifold(frames: str, tmp_path: Path) -> None:
    module = Lit(frames)
    saving = lightnings.ModelCheckpoint(tmp_path, save_last=True)
    run = trainer(tmp_path, 3, enable_checkpointing=True, callbacks=[FrameAveraging(0.8), saving])
    run.fit(module, loader(), loader())
    model = network(frames)
    average = sr.averaged(model, 0.8)
    plain_loop(model, optimizer_for(frames, model.parameters()), 3, after=lambda: average.update(model))
    assert_same_state(module.net, average.module)
    assert_frames(module)
    assert_same_state(Lit.load_from_checkpoint(tmp_path / "last.ckpt"), module)


def test_an_average_is_carried_through_changes_of_the_gauge(tmp_path: Path) -> None:
    found = []
    for every in (0, 3):
        module = Lit()
        own = [SpectralCallback(gauge_fix_every=every, log=False), FrameAveraging(0.8)]
        trainer(tmp_path, 4, callbacks=own, precision="64-true").fit(module, loader(torch.float64))
        found.append(weights_of(module))
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=0, atol=1e-9)


def test_an_average_of_a_narrow_network_stays_wide(tmp_path: Path) -> None:
    module, average = Lit(), FrameAveraging(0.8)
    trainer(tmp_path, precision="bf16-true", callbacks=[average]).fit(module, loader())
    assert average.average.net.head.bias.dtype == torch.float32
    assert_frames(module)
    torch.testing.assert_close(module.net.head.bias, average.average.net.head.bias.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "average",
    [lightnings.WeightAveraging(), lightnings.StochasticWeightAveraging(1e-2)],
    ids=lambda own: type(own).__name__,
)
@PATHS
def test_averages_of_lightning_are_refused_with_the_way_out(frames: str, average: Any, tmp_path: Path) -> None:
    module = Lit(frames)
    before = copy.deepcopy(module)
    with pytest.raises(ValueError, match=f"{type(average).__name__} averages .*FrameAveraging"):
        trainer(tmp_path, callbacks=[average, SpectralCallback()]).fit(module, loader())
    assert_same_state(module, before)


def test_entries_scaled_one_by_one_are_refused_after_the_first_step(tmp_path: Path) -> None:
    module = Lit(make=lambda parameters, lr: torch.optim.Adam(parameters, lr=lr))
    run = trainer(tmp_path, callbacks=[SpectralCallback(gauge_fix_every=100)])
    with pytest.raises(ValueError, match=r"Adam scales the entries of a frame one by one.*RiemannianAdam"):
        run.fit(module, loader())
    assert run.global_step == 1


def test_a_module_without_frames_is_refused(tmp_path: Path) -> None:
    for callback in (SpectralCallback(), FrameAveraging()):
        with pytest.raises(ValueError, match="no reparameterized layer; call reparameterize first"):
            trainer(tmp_path, callbacks=[callback]).fit(Lit("dense"), loader())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SpectralCallback, {"gauge_fix_every": -1}),
        (SpectralCallback, {"gauge_fix_every": 0.5}),
        (SpectralCallback, {"log": "yes"}),
        (SpectralCallback, {"margin": 2.0}),
        (FrameAveraging, {"decay": 1.0}),
    ],
)
def test_options_out_of_range_are_refused(kind: type, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)
