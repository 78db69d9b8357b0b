"""Modules of Lightning around reparameterized networks, in a Trainer at its defaults and with what users turn on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import geoopt
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sttp_riemann as sr
from tests.workflows.common import PATHS, inputs, moved, optimizer_for, spectral, weights_of

pytest.importorskip("lightning")

import lightning.pytorch as pl
from lightning.pytorch import callbacks as own
from lightning.pytorch.tuner import Tuner

from sttp_riemann.callbacks.lightning import SpectralCallback
from tests.workflows.lit import (
    ROWS,
    Adversaries,
    Lit,
    assert_frames,
    assert_same_state,
    loader,
    network,
    plain_loop,
    rows,
    trainer,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*(workers|logging interval|LeafSpec|no `val_dataloader`).*")


def trained_plainly(frames: str, **options: Any) -> nn.Module:
    model = network(frames)
    return plain_loop(model, optimizer_for(frames, model.parameters()), **options)


@PATHS
def test_a_trainer_at_its_defaults_learns_what_a_plain_loop_does_and_its_checkpoint_is_the_model(
    frames: str, tmp_path: Path
) -> None:
    module = Lit(frames)
    before = weights_of(module)
    run = pl.Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path)
    run.fit(module, loader(), loader())
    assert moved(before, weights_of(module)) == {"net.backbone.0", "net.backbone.2", "net.head"}
    assert_same_state(module.net, trained_plainly(frames))
    assert_frames(module)
    loaded = Lit.load_from_checkpoint(run.checkpoint_callback.best_model_path)
    assert_same_state(loaded, module)
    (tested,) = run.test(module, loader(), ckpt_path="best")
    assert tested["test"] == run.callback_metrics["test"]
    with torch.no_grad():
        told = torch.cat([loaded(x) for x in rows().split(8)])
    assert torch.equal(torch.cat(run.predict(module, loader())), told)
    with torch.no_grad():
        assert torch.equal(module.eval()(inputs()), loaded.eval()(inputs()))


@pytest.mark.parametrize(
    ("options", "loop"),
    [
        ({"gradient_clip_val": 0.01}, {"clip": 0.01}),
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
        ({"precision": "bf16-mixed"}, {"precision": torch.bfloat16}),
    ],
    ids=["clip", "accumulate", "bf16"],
)
@PATHS
def test_what_a_trainer_turns_on_does_what_it_does_in_a_plain_loop(
    frames: str, options: dict, loop: dict, tmp_path: Path
) -> None:
    module = Lit(frames)
    trainer(tmp_path, **options).fit(module, loader())
    assert_same_state(module.net, trained_plainly(frames, **loop))
    assert_frames(module)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
@PATHS
def test_a_network_of_another_dtype_keeps_its_frames(
    frames: str, precision: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    module = Lit(frames)
    before = weights_of(module)
    trainer(tmp_path, precision=precision).fit(module, loader())
    assert len(moved(before, {n: w.float() for n, w in weights_of(module).items()})) == 3
    assert_frames(module)
    assert module.net.head.weight.dtype == dtype


def geoopts(parameters: Any, lr: float) -> Any:
    return geoopt.optim.RiemannianAdam(parameters, lr=lr)


def ours(parameters: Any, lr: float) -> Any:
    return sr.RiemannianSGD(parameters, lr=lr, momentum=0.9)


def scheduled(parameters: Any, lr: float) -> Any:
    optimizer = sr.RiemannianAdam(parameters, lr=lr)
    return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


@pytest.mark.parametrize("make", [geoopts, ours, scheduled])
def test_optimizers_of_every_kind_do_what_they_do_in_a_plain_loop(make: Any, tmp_path: Path) -> None:
    module, model = Lit(make=make), network("riemannian")
    trainer(tmp_path, epochs=3).fit(module, loader())
    made = make(model.parameters(), lr=1e-2)
    optimizer, step = (made[0][0], made[1][0].step) if isinstance(made, tuple) else (made, lambda: None)
    plain_loop(model, optimizer, epochs=3, after_epoch=step)
    assert_same_state(module.net, model)
    assert_frames(module)


def test_an_optimizer_of_torch_on_riemannian_frames_is_warned_of(tmp_path: Path) -> None:
    module = Lit(make=lambda parameters, lr: torch.optim.Adam(parameters, lr=lr))
    with pytest.warns(UserWarning, match=r"sr\.project"):
        trainer(tmp_path, epochs=4).fit(module, loader())


@PATHS
def test_two_optimizers_stepped_by_hand_do_what_they_do_in_a_plain_loop(frames: str, tmp_path: Path) -> None:
    module, model = Adversaries(frames), Adversaries(frames)
    trainer(tmp_path).fit(module, loader())
    optimizers = model.configure_optimizers()
    for _ in range(2):
        for (x,) in loader():
            for optimizer, loss in zip(optimizers, model.losses(x), strict=True):
                optimizer.zero_grad()
                loss().backward()
                optimizer.step()
    assert_same_state(module, model)
    assert_frames(module)


@PATHS
def test_finders_leave_weights_and_optimizer_as_they_found_them(frames: str, tmp_path: Path) -> None:
    module = Lit(frames)
    run = trainer(tmp_path, enable_checkpointing=True)
    tuner = Tuner(run)
    tuner.lr_find(module, loader(), num_training=6, update_attr=False)
    run.fit(module, loader())
    assert_same_state(module.net, trained_plainly(frames))


@PATHS
def test_a_module_that_was_reparameterized_from_outside_is_loaded_by_its_state(frames: str, tmp_path: Path) -> None:
    module = Lit("dense", make=lambda parameters, lr: optimizer_for(frames, parameters, lr))
    spectral(module, frames)
    run = trainer(tmp_path, enable_checkpointing=True)
    run.fit(module, loader())
    path = run.checkpoint_callback.best_model_path
    with pytest.raises(RuntimeError, match=r"net\.head\.left\.0"):
        Lit.load_from_checkpoint(path)
    loaded = sr.load(torch.load(path, weights_only=True)["state_dict"], Lit("dense"))
    assert_same_state(loaded, module)


AVERAGES = {
    "equal": lambda: own.WeightAveraging(),
    "exponential": lambda: own.EMAWeightAveraging(decay=0.5),
    "stochastic": lambda: own.StochasticWeightAveraging(1e-2, swa_epoch_start=1),
}


@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_of_lightning_whose_frames_are_off_is_warned_of(average: str, tmp_path: Path) -> None:
    module = Lit(lr=5e-2)
    run = trainer(tmp_path, epochs=4, callbacks=[AVERAGES[average]()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.fit(module, loader())
    assert sr.orthogonality_error(module) > 1e-3
    with pytest.warns(UserWarning, match=r"sr\.project"):
        run.test(module, loader())
    sr.project(module)
    assert_frames(module)


@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_of_lightning_leaves_householder_frames_what_they_are(average: str, tmp_path: Path) -> None:
    module = Lit("householder")
    run = trainer(tmp_path, epochs=4, callbacks=[AVERAGES[average]()])
    run.fit(module, loader(), loader())
    assert_frames(module)


def test_rows_that_an_average_of_lightning_has_changed_are_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[own.EMAWeightAveraging(decay=0.9)])
    with pytest.raises(RuntimeError, match=r"rows.*use_buffers=False"):
        run.fit(Lit("householder"), loader(), loader())


@pytest.mark.slow
def test_two_processes_end_with_the_same_frames_which_are_those_of_one_process(tmp_path: Path) -> None:
    from tests.workflows import lit_processes
    from tests.workflows.two_processes import free_port

    torch.multiprocessing.spawn(lit_processes.work, (free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for kind, state in first.items():
        assert all(torch.equal(state[name], second[kind][name]) for name in state)
        frames, _, how = kind.partition(" ")
        module = Adversaries(frames) if how == "by hand" else Lit(frames)
        if how == "in float64":
            run = trainer(tmp_path, precision="64-true", callbacks=[SpectralCallback(gauge_fix_every=2)])
            run.fit(module, DataLoader(TensorDataset(rows()), batch_size=2 * ROWS))
            for name, own in module.state_dict().items():
                torch.testing.assert_close(state[name], own, rtol=0, atol=1e-9)
            continue
        before = weights_of(module)
        module.load_state_dict(state)
        assert moved(before, weights_of(module)) == {*before}
        assert_frames(module)


@pytest.mark.slow
@PATHS
def test_a_compiled_module_trains_and_is_loaded(frames: str, tmp_path: Path) -> None:
    module = Lit(frames)
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[SpectralCallback(gauge_fix_every=3)])
    run.fit(torch.compile(module, backend="aot_eager"), loader())
    plain = Lit(frames)
    trainer(tmp_path, callbacks=[SpectralCallback(gauge_fix_every=3)]).fit(plain, loader())
    for name, weight in weights_of(module).items():
        torch.testing.assert_close(weights_of(plain)[name], weight, rtol=0, atol=1e-4)
    assert_frames(module)
    assert_same_state(Lit.load_from_checkpoint(run.checkpoint_callback.best_model_path), module)
