"""Every example, run as a user runs it, prints what its text says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(name: str, folder: Path, *arguments: str, **environment: str) -> str:
    """What the script prints; it runs in an empty folder, on one thread."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:__main__", str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _figure(printed: str, what: str) -> float:
    """The number that follows these words."""
    found = re.search(re.escape(what) + r" ([-+.\de]*\d)", printed)
    assert found, f"{what!r} is not in:\n{printed}"
    return float(found[1])


def test_an_mlp_of_ones_own_is_compressed_trained_and_given_back(tmp_path: Path) -> None:
    printed = _run("own_mlp", tmp_path)
    assert _figure(printed, "Z =") < 10
    assert _figure(printed, "test accuracy:") > 92
    assert abs(_figure(printed, "test accuracy:") - _figure(printed, "test accuracy with dense layers:")) < 4
    assert _figure(printed, "orthogonality error:") < 1e-5
    assert _figure(printed, "largest singular value:") == pytest.approx(3, abs=1e-4)
    assert _figure(printed, "conversion to Householder frames:") < 1e-5
    assert _figure(printed, "moved by decompress:") < 1e-5
    assert "layers afterwards: Flatten, Linear, ReLU, Linear, ReLU, Linear\n" in printed


@pytest.mark.slow
def test_a_resnet_of_a_tenth_of_the_numbers_keeps_most_of_its_accuracy_where_outputs_are_kept(tmp_path: Path) -> None:
    printed = _run("compress_resnet", tmp_path)
    errors = [float(value) for value in re.findall(r"relative error (\d\.\d\d)$", printed, re.MULTILINE)]
    assert len(errors) == 21
    assert 0 <= min(errors) < 0.05
    assert 0.1 < max(errors) < 0.4
    assert 9 < _figure(printed, "Z =") <= 10
    before, after, tuned = (
        _figure(printed, f"test accuracy {when}:")
        for when in ("before compression", "after compression", "after fine-tuning")
    )
    assert before > 90
    assert before - 10 < after < before
    assert tuned > max(85, after - 2)
    assert _figure(printed, "orthogonality error:") < 1e-5


def test_the_ablation_shows_the_trajectories_modulo_gauge(tmp_path: Path) -> None:
    printed = _run("ablation", tmp_path, "--output", "figures")
    fixed, free, householder, pivoted, _ = re.split(r"^(?=Riem|House|plotted)", printed, flags=re.MULTILINE)[1:]
    for run in (fixed, free, householder, pivoted):
        assert _figure(run, "orthogonality error") < 1e-5
    assert _figure(fixed, "gauge drift") < 1e-5
    assert _figure(free, "gauge drift") > 1
    assert _figure(householder, "gauge drift") < 1e-5
    # The same network all along, in another gauge; and another network
    assert _figure(free, "quotient distance") < 1e-3
    assert _figure(free, "weight apart by") < 1e-4
    assert _figure(householder, "quotient distance") > 0.1
    assert _figure(fixed, "loss") == pytest.approx(_figure(free, "loss"), rel=0.1, abs=1e-6)
    # The wall, and the rows that lead past it
    assert _figure(householder, "chart margin") < 0.01 < _figure(pivoted, "chart margin")
    assert _figure(pivoted, "loss") < 0.1 * _figure(householder, "loss")
    assert (tmp_path / "figures" / "ablation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_ranks_that_change_end_within_the_budget_from_any_first_rank(tmp_path: Path) -> None:
    options = ("--first", "6", "12", "--seeds", "0", "--steps", "60", "--changes", "3", "--budget", "0.15")
    options += ("--output", str(tmp_path / "runs"))
    printed = _run("changing_ranks", tmp_path, *options)
    assert _run("changing_ranks", tmp_path, *options) == printed
    assert "| 6 " in (tmp_path / "runs" / "report.md").read_text()
    ends = [run for run in printed.splitlines() if ", seed " in run]
    assert [run.split(",")[0] for run in ends] == ["first rank 6", "first rank 12"]
    for run in ends:
        assert _figure(run, "Z") <= 15
        assert _figure(run, "accuracy") > 60


def test_first_rows_that_lead_get_stuck_where_riemannian_frames_go_on(tmp_path: Path) -> None:
    printed = _run("walls", tmp_path, "--targets", "1", "--steps", "120", "--method", "svdp", "--output", "figures")
    found = pd.read_csv(tmp_path / "figures" / "walls.csv")
    last = found[found.step == 120].set_index("frames").loss
    assert last["Riemannian"] < 1e-3 * last["Householder, first rows lead"]
    assert last["Householder, pivoted"] < last["Householder, first rows lead"]
    assert found.groupby("frames").margin.min()["Householder, first rows lead"] < 0.01
    assert all(name in printed for name in last.index)
    assert (tmp_path / "figures" / "walls.png").read_bytes().startswith(b"\x89PNG")


def test_the_constrained_discriminator_has_singular_values_one_and_the_lower_bound(tmp_path: Path) -> None:
    printed = _run("constrained_gan", tmp_path)
    free, constrained = printed.split("constrained discriminator\n")
    assert "singular values: 1.0000, 1.0000, 1.0000, 1.0000\n" in constrained
    assert _figure(free, "largest singular values:") > 1.01
    # Three convolutions that meet an input value 3 x 3, 2 x 2 and 2 x 2 times allow no more than 12
    assert 9 < _figure(constrained, "bound of the Lipschitz constant:") < 12
    assert _figure(free, "bound of the Lipschitz constant:") > 24
    for part in (free, constrained):
        assert 0 < _figure(part, "longest gradient:") < _figure(part, "bound of the Lipschitz constant:")


@pytest.mark.parametrize("compiler", ["", pytest.param("no-such-compiler", marks=pytest.mark.slow)])
def test_a_compiled_attention_block_learns_and_agrees_with_the_eager_one(tmp_path: Path, compiler: str) -> None:
    printed = _run("compiled_attention", tmp_path, **({"CXX": compiler} if compiler else {}))
    assert ("no C++ compiler found" in printed) or not compiler
    for when in ("before training", "after training"):
        assert _figure(printed, f"outputs differ {when} by") < 1e-5
    start, end = (float(value) for value in re.search(r"loss: ([\d.]+) at the start, ([\d.]+) at", printed).groups())
    assert end < start / 4
    assert _figure(printed, "test accuracy:") > 85
    values = [float(value) for value in re.findall(r"(?:q|k|v|out) (\d\.\d+)", printed)]
    assert values == pytest.approx([1] * 4, abs=1e-4)


@pytest.mark.slow
def test_adapters_of_a_transformer_learn_code_within_the_numbers_of_lora(tmp_path: Path) -> None:
    small = ["--width", "16", "--depth", "1", "--length", "32", "--pretrain-steps", "30", "--steps", "15"]
    ways = ["--starts", "gradient", "--ranks", "2", "--evaluation", "2", "--output", "found", "--seeds", "2"]
    ways += ["--rates", "0.01", "0.003"]
    _run("adapt_transformer", tmp_path, *small, *ways, "--methods", "svdp")
    printed = _run("adapt_transformer", tmp_path, *small, *ways)
    before = _figure(printed, "Pretrained on English, code: loss")
    found = pd.read_csv(tmp_path / "found" / "runs.csv")
    # Two rates with seed 0, then two seeds; what the first command ran is not run again
    assert (found.groupby("name").size() == 4).all()
    report = (tmp_path / "found" / "report.md").read_text()
    assert all(f"| {name} " in report for name in found.name)
    assert {"svdp riemannian gradient", "sttp riemannian gradient"} <= set(found.name)
    assert (found.trained <= 1.05 * found["size"]).all()
    assert (found[found.name.str.startswith("svdp")].trained >= found["size"].iloc[0]).all()
    assert (found.loss < before).all()
    assert (tmp_path / "found" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_every_example_is_in_the_list_and_tested() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    listed = set(re.findall(r"python examples/(\w+)\.py", (EXAMPLES / "README.md").read_text()))
    tested = set(re.findall(r'_run\("(\w+)"', Path(__file__).read_text()))
    assert scripts == listed == tested


@pytest.mark.slow
def test_what_compression_costs_is_measured_seed_by_seed_and_added_to(tmp_path: Path) -> None:
    recipe = {"extends": "fashion", "data": {"name": "digits", "image_size": 8}, "schedule": {"batch_size": 64}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    fixed = ["--recipe", "small.yaml", "--output", "found", "--budget", "0.3", "--steps", "30", "--epochs", "1"]
    _run("compress_fashion", tmp_path, *fixed, "--seeds", "0")
    printed = _run("compress_fashion", tmp_path, *fixed, "--seeds", "1")
    rows = pd.read_csv(tmp_path / "found" / "compression.csv")
    assert list(zip(rows.frames, rows.seed, strict=True)) == [
        (f, s) for f in ("householder", "riemannian") for s in (0, 1)
    ]
    assert (rows.lost - (rows.dense - rows.fine_tuned)).abs().max() < 1e-3
    assert (rows.file < 31).all()
    assert len(re.findall(r"STTP \w+, rate 0.003, 2 seeds: file at most \d+\.\d\d %", printed)) == 2
    assert "points lost (" in printed
