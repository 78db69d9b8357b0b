"""The contest: every rival steps as its paper says, is stored and resumed, and the referee measures what it says."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.errors import RecipeError
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab import plugins
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS
from sttp_riemann.lab.training.optimizers import build_optimizer, join_state, split_state
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.testing.models import turn_

CONTEST = Path(__file__).parents[2] / "examples" / "contest"
# A learning rate, and the largest orthogonality error after 20 steps in float32
RIVALS = {
    "geoopt-adam-qr": (0.1, 5e-6),
    "geoopt-adam-cayley": (0.1, 5e-6),
    "geoopt-adam-exp": (0.1, 1e-4),
    "geoopt-sgd-qr": (0.1, 5e-6),
    "geoopt-sgd-cayley": (0.1, 5e-6),
    # Its first step is not tangent
    "geoopt-sgd-exp": (0.1, 0.1),
    "cayley-adam": (0.1, 1e-4),
    "cayley-sgd": (0.1, 1e-3),
    "landing": (0.3, 0.05),
    "landing-weak": (0.3, 0.05),
    "landing-momentum": (0.1, 0.2),
    "pogo": (0.1, 1e-4),
    "pogo-tangent": (0.1, 1e-4),
    "pogo-sgd": (0.1, 1e-3),
    "spel": (0.03, 5e-6),
}
PARAMETRIZATIONS = ["torch-exp", "torch-cayley", "torch-householder", "geotorch"]


@pytest.fixture(autouse=True)
def rivals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, imported as ``--import rivals`` does, and registries as before afterwards."""
    before = [(registry, set(registry)) for registry in (OPTIMIZERS, FRAMES)]
    monkeypatch.chdir(CONTEST)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_imported", [])
    plugins.import_modules(["rivals"])
    yield
    for registry, names in before:
        for name in set(registry) - names:
            registry.pop(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rivals"]:
        del sys.modules[name]


def _recipe(optimizer: str, **fields: Any) -> Recipe:
    return Recipe().changed(**{"lr": RIVALS[optimizer][0], "optimizer": optimizer, **fields})


def _model(dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return sr.reparameterize(nn.Linear(36, 24, dtype=dtype), 6, init="orthogonal", **options)


def _losses(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    generator, losses = torch.Generator().manual_seed(0), []
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(64, 36, generator=generator).to(dtype)
    target = torch.randn(64, 3, generator=generator).to(dtype) @ torch.randn(3, 24, generator=generator).to(dtype) / 4
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(inputs) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_plugin_adds_these_rivals_and_no_others() -> None:
    assert set(OPTIMIZERS) - {"adam", "sgd"} == set(RIVALS)
    assert set(FRAMES) - {"riemannian", "householder"} == set(PARAMETRIZATIONS)


@pytest.mark.filterwarnings("ignore:frames of layer")
@pytest.mark.parametrize("name", RIVALS)
def test_twenty_steps_lower_the_loss_keep_the_frames_and_are_resumed(name: str) -> None:
    model = _model()
    optimizer = build_optimizer(model, _recipe(name))
    losses = _losses(model, optimizer, 20)
    assert losses[-1] < 0.9 * losses[0]
    assert sr.orthogonality_error(model) < RIVALS[name][1]
    other = copy.deepcopy(model)
    resumed = build_optimizer(other, _recipe(name))
    tensors, values = split_state(optimizer)
    join_state(resumed, other, {name: tensor.clone() for name, tensor in tensors.items()}, values)
    assert _losses(model, optimizer, 3) == pytest.approx(_losses(other, resumed, 3), rel=1e-6)


@pytest.mark.parametrize("name", RIVALS)
def test_what_a_rival_does_not_keep_is_refused(name: str) -> None:
    model = _model()
    optimizer = build_optimizer(model, _recipe(name))
    _losses(model, optimizer, 1)
    tensors, values = split_state(optimizer)
    with pytest.raises(ValueError, match="'left_over' of spectrum, which it does not use"):
        join_state(
            build_optimizer(model, _recipe(name)),
            model,
            {**tensors, f"{_spectrum(model)}.left_over": torch.ones(6)},
            values,
        )


def _spectrum(model: nn.Module) -> int:
    return [name for name, _ in model.named_parameters()].index("spectrum")


@pytest.mark.parametrize("name", [name for name in RIVALS if not name.startswith("geoopt")])
def test_plain_parameters_move_as_in_torch(name: str) -> None:
    ours, theirs = (nn.Linear(36, 24) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    sgd = "sgd" in name or "landing" in name
    torchs = torch.optim.SGD(theirs.parameters(), 0.1, 0.9) if sgd else torch.optim.Adam(theirs.parameters(), 0.1)
    row, section = OPTIMIZERS[name], _recipe(name).optimizer
    _losses(ours, row.riemannian(ours.parameters(), lr=0.1, **row.options(section)), 5)
    _losses(theirs, torchs, 5)
    assert torch.equal(ours.weight, theirs.weight)


def _first_step(name: str, rate: float, **fields: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A frame, its gradient, and where a first step leads, in float64."""
    model = _model(torch.float64, spectrum="identity")
    point = model.left[-1]
    x = point.detach().clone()
    optimizer = build_optimizer(model, _recipe(name, lr=rate, **fields))
    _losses(model, optimizer, 1)
    return x.as_subclass(Tensor), point.grad.clone().as_subclass(Tensor), point.detach().as_subclass(Tensor)


@pytest.mark.filterwarnings("ignore:frames of layer")
@pytest.mark.parametrize("name", RIVALS)
def test_of_all_rivals_only_qr_depends_on_the_gauge(name: str) -> None:
    straight, turned = (_model(torch.float64) for _ in range(2))
    turn_(turned)
    for model in (straight, turned):
        _losses(model, build_optimizer(model, _recipe(name)), 10)
    apart = torch.linalg.matrix_norm(turned.weight - straight.weight).item()
    assert apart > 1e-4 if name.endswith("qr") else apart < 1e-9


def _skew(a: Tensor) -> Tensor:
    return (a - a.mT) / 2


def test_a_cayley_step_is_the_cayley_transform_up_to_its_iterations() -> None:
    for name, scaled in (("cayley-sgd", False), ("cayley-adam", True)):
        x, g, moved = _first_step(name, 1e-3)
        # The Euclidean projection of the momentum, as W X with a skew W
        half = g @ x.mT - x @ (x.mT @ g @ x.mT) / 2
        w = -(half - half.mT) / (g.norm() if scaled else 1)
        eye = torch.eye(len(x), dtype=x.dtype)
        exact = torch.linalg.solve(eye - 5e-4 * w, (eye + 5e-4 * w) @ x)
        assert (moved - exact).norm() < 1e-4 * (exact - x).norm()


def test_a_landing_step_is_the_relative_gradient_and_is_never_longer_than_is_safe() -> None:
    x, g, moved = _first_step("landing", 0.1)
    assert torch.allclose(moved, x - 0.1 * _skew(g @ x.mT) @ x, rtol=0, atol=1e-14)
    x, g, moved = _first_step("landing", 1e9)
    relative = _skew(g @ x.mT) @ x
    step = min(0.5**0.5 / relative.norm(), 0.5)
    assert torch.allclose(moved, x - step * relative, rtol=0, atol=1e-12)


def test_a_step_of_pogo_is_a_relative_gradient_and_a_pull_to_the_manifold() -> None:
    for name, scaled in (("pogo-sgd", False), ("pogo", True), ("pogo-tangent", True)):
        x, g, moved = _first_step(name, 0.3)
        g = g - x @ (x.mT @ g + g.mT @ x) / 2 if name == "pogo-tangent" else g
        middle = x - 0.3 * _skew(g / (g.norm() if scaled else 1) @ x.mT) @ x
        wanted = middle + middle @ (torch.eye(x.shape[1], dtype=x.dtype) - middle.mT @ middle) / 2
        assert torch.allclose(moved, wanted, rtol=0, atol=1e-7)
        assert (middle - x).norm() > 1e-3


def test_a_step_of_spel_is_two_polar_factors() -> None:
    x, g, moved = _first_step("spel", 0.1)

    def msign(y: Tensor) -> Tensor:
        u, _, vh = torch.linalg.svd(y, full_matrices=False)
        return u @ vh

    tangent = g - x @ (x.mT @ g + g.mT @ x) / 2
    assert torch.allclose(moved, msign(x - 0.1 * msign(tangent)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_parametrizations_are_frames_that_train(name: str) -> None:
    if name == "geotorch":
        pytest.importorskip("geotorch")
    if find_spec("geotorch") is None:
        # The check converts into every kind with a row. Not by monkeypatch, which would put it back after the fixture
        del FRAMES["geotorch"]
    sr.testing.check_frame(name)
    model = _model(frames=name)
    losses = _losses(model, torch.optim.Adam(model.parameters(), lr=0.03), 20)
    assert losses[-1] < 0.9 * losses[0]
    assert sr.orthogonality_error(model) < 1e-5


def test_a_missing_geotorch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "geotorch", None)
    with pytest.raises(RecipeError, match=r"^frames 'geotorch' need geotorch: pip install 'sttp-riemann\[bench\]'$"):
        _model(frames="geotorch")


@pytest.mark.filterwarnings("ignore:frames of layer")
def test_a_comparison_of_rivals_resumes_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["--network_options.width", "16", "--network_options.depth", "1", "--batch_size", "32"]
    stops = ["--steps", "5", "--evaluate_every", "5", "--checkpoint_every", "2", "--seeds", "0"]
    swept = ["--sweep", "optimizer=landing-momentum,spel", "lr=0.05"]
    command = ["compare", "--import", "rivals", "--recipe", "digits.yaml", *sizes, *stops, *swept, "--output"]
    step = Trainer._step

    def cut(self: Trainer) -> None:
        if self.progress.step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", cut)
        assert cli.main([*command, str(tmp_path / "study")]) != 0
    (cut_off,) = (tmp_path / "study").rglob("*.safetensors")
    assert load_checkpoint(cut_off).values["progress"]["step"] == 2
    assert cli.main([*command, str(tmp_path / "study"), "--workers", "2"]) == 0
    ends = [load_checkpoint(path).values["progress"]["step"] for path in (tmp_path / "study").rglob("*.safetensors")]
    assert ends == [5, 5]
    report = (tmp_path / "study" / "report.md").read_text()
    assert all(name in report for name in ("landing-momentum", "spel"))


def test_the_referee_measures_gauge_orthogonality_and_fit(tmp_path: Path) -> None:
    names = ["RiemannianAdam, matrix", "geoopt-adam-qr", "landing", "Householder, Adam", "torch-cayley, Adam"]
    done = subprocess.run(
        [sys.executable, str(CONTEST / "fit.py"), *("--targets", "1", "--steps", "8"), "--only", *names],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CONTEST.parents[1])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "contest.csv")
    assert list(found) == ["contestant", "rate", "target", "step", "seconds", "loss"]
    assert set(found.contestant) == set(names)
    assert all(name in done.stdout for name in names)
    table = pd.read_csv(tmp_path / "summary.csv").set_index("contestant")
    assert table.gauge_error["RiemannianAdam, matrix"] < 1e-10
    assert table.gauge_error["geoopt-adam-qr"] > 1e-3
    assert pd.isna(table.gauge_error["Householder, Adam"])
    assert table.orthogonality_error.drop("landing").max() < 1e-5 < table.orthogonality_error["landing"]
    first, last = (found[found.step == step].set_index("contestant") for step in (0, 8))
    assert last.loss["RiemannianAdam, matrix"] < 0.8 * first.loss["RiemannianAdam, matrix"]
    assert (last.seconds > first.seconds).all()
    rates = pd.read_csv(tmp_path / "rates.csv")
    assert (rates.groupby("contestant").rate.nunique() == 4).all()
    assert (tmp_path / "contest.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("best", "tried"), [(0.009, {0.003, 0.009, 0.03, 0.09}), (0.3, {0.003, 0.009, 0.03, 0.09, 0.3, 1.0})]
)
def test_rates_of_a_task_go_on_while_the_best_one_is_at_an_end(best: float, tried: set[float], tmp_path: Path) -> None:
    from contestants import CONTESTANTS
    from tasks import Task

    class Known(Task):
        def run(self, own: Any, rate: float, seed: int) -> dict[str, Any]:
            asked.add(rate)
            return {"validation": -abs(rate - best)}

    asked: set[float] = set()
    pogo = next(own for own in CONTESTANTS if own.name == "pogo")
    assert Known("digits", tmp_path, {}, range(3), range(3, 5)).choose(pogo) == best
    assert asked == tried


@pytest.mark.parametrize(
    ("steps", "median"), [([70, 90, 80], 80), ([70, math.nan, 80], 80), ([70, math.nan, math.nan], math.nan)]
)
def test_a_run_that_never_reaches_the_target_counts_in_the_median(steps: list[float], median: float) -> None:
    from tasks import _median

    assert _median(steps) == pytest.approx(median, nan_ok=True)


@pytest.mark.slow
def test_contestants_train_on_a_task_in_three_rounds(tmp_path: Path) -> None:
    options = ["--steps", "10", "--seeds", "2", "--fresh", "2", "--timed", "2", "--only", "spel", "Householder, Adam"]
    done = subprocess.run(
        [sys.executable, str(CONTEST / "tasks.py"), "digits", *options],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CONTEST.parents[1])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    names = {"RiemannianAdam, cores", "spel", "Householder, Adam"}
    runs, table, finals = (pd.read_csv(tmp_path / f"digits{part}.csv") for part in ("", "-summary", "-finals"))
    assert set(table.contestant) == names
    assert (runs.groupby("contestant").seed.nunique() == 4).all()
    assert set(finals.contestant) == names - {"RiemannianAdam, cores"}
    ours = runs[(runs.contestant == "RiemannianAdam, cores") & (runs.seed >= 2)].test.mean()
    assert finals.ours.to_numpy() == pytest.approx(100 * ours, abs=0.01)
    assert (table.ms_a_step > 0).all()
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
