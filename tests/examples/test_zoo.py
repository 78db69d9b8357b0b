"""The zoo: its script works, tells what breaks, goes on where it was cut off, and its table covers its rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr

pytest.importorskip("timm")
pytest.importorskip("torchvision")
ROOT = Path(__file__).parents[2]
FOLDER, PAGE = ROOT / "examples" / "zoo", ROOT / "docs" / "studies" / "zoo"
LEAST = {"torchvision": 15, "timm": 36, "transformers": 20, "diffusers": 4}
SEVEN = ("GPT-2", "BERT", "Llama", "Mixtral", "ViT", "T5", "Whisper")


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; a test leaves none of its modules imported."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    import zoo as script

    yield script
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def _run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "zoo.py"), "--output", str(folder), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        capture_output=True,
        text=True,
        timeout=7200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _failed(own: dict[str, Any]) -> list[str]:
    return [text for variant in own["variants"].values() for text in variant["failed"].values()]


def test_three_models_are_measured_and_what_was_found_before_stays(tmp_path: Path) -> None:
    before = json.loads((PAGE / "results.jsonl").read_text().splitlines()[0])
    (tmp_path / "results.jsonl").write_text(json.dumps(before | {"seconds": -1}) + "\n")
    names = ["vit_b_16", "resnetv2_50x1_bit", "mixer_s16_224"]
    verbs = ["reparameterize", "step", "save, load", "decompress"]
    printed = _run(tmp_path, "--only", before["model"], *names, "--verbs", *verbs)
    found = {own["model"]: own for own in map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())}
    assert found.pop(before["model"])["seconds"] == -1
    assert list(found) == names
    for own in found.values():
        assert own["dense"] is None
        assert [variant["passed"] for variant in own["variants"].values()] == [verbs, verbs]
        assert not _failed(own)
        assert 0.95 < own["reached"] / own["numbers"] < 1
        assert f"{own['model']}: {own['seconds']} s; all verbs" in printed
    page = (tmp_path / "report.md").read_text()
    assert all(f"| {name} |" in page for name in [*names, before["model"]])


def _toy(zoo: ModuleType, make: Any) -> Any:
    return zoo.Row("torch", "toy", make, lambda: (torch.randn(4, 16, generator=torch.Generator().manual_seed(0)),))


def _network() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 16))


def test_a_verb_that_changes_weights_or_loses_one_is_told(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    canonicalize = sr.canonicalize

    def turned(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            model[0].spectrum.mul_(0.9)
            model[0].spectrum[0] *= 1.1
        return canonicalize(model)

    monkeypatch.setattr(sr, "canonicalize", turned)
    monkeypatch.setattr(sr, "decompress", lambda model, factored=False: model)
    monkeypatch.setattr(sr, "gauge_fix", lambda model, optimizer: model[:2])
    own = zoo.measure(_toy(zoo, _network))
    failed = own["variants"]["sttp householder"]["failed"]
    assert re.fullmatch(r"BrokenError: outputs moved by .*", failed["canonicalize"])
    assert failed["decompress"] == "BrokenError: other names than those of the dense model"
    assert failed["gauge_fix"] == "BrokenError: outputs of another shape"
    assert "BrokenError" in zoo.told(own)


def test_a_model_that_dense_training_fails_or_that_ends_its_process_is_told_and_not_counted(zoo: ModuleType) -> None:
    def broken() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 24), nn.Linear(16, 24))

    own = zoo.measure(_toy(zoo, broken))
    assert own["dense"].startswith("RuntimeError: mat1 and mat2")
    assert own["variants"] == {}
    crashed = zoo.isolated(_toy(zoo, lambda: os._exit(3)), 60)
    late = zoo.isolated(_toy(zoo, lambda: __import__("time").sleep(60)), 0.1)
    assert (crashed["crash"], late["crash"]) == ("its process ended", "took more than 0.1 seconds")
    page = zoo.report([own | {"package": "timm"}, crashed | {"package": "timm"}], 8, {}, (), {})
    assert "| all | 2 | 0 | 0 | 0 |" in page
    assert "RuntimeError: mat1" in page


def test_the_page_has_every_row_and_tells_what_the_results_tell(zoo: ModuleType) -> None:
    found, page = zoo.read(PAGE / "results.jsonl"), (PAGE / "report.md").read_text()
    rows = [(row.package, row.name) for row in zoo.ROWS]
    assert len(set(rows)) == len(rows)
    assert set(found) <= set(rows)
    assert zoo.page(found) == page
    assert all(f"| {name} |" in page for _, name in rows)
    counts = {package: sum(own == package for own, _ in rows) for package in zoo.HEAVY}
    assert all(counts[package] >= least for package, least in LEAST.items())


def test_every_model_that_was_measured_trains_dense_and_passes_every_verb_that_ran(zoo: ModuleType) -> None:
    for own in zoo.read(PAGE / "results.jsonl").values():
        assert own["dense"] is None
        assert not _failed(own)
        assert all("step" in variant["passed"] for variant in own["variants"].values())


def test_the_seven_large_models_are_reached_by_at_least_95_percent_at_their_published_size(zoo: ModuleType) -> None:
    found = zoo.read(PAGE / "results.jsonl")
    for name in SEVEN:
        own = found["transformers", name]
        assert own["size"] == "published"
        assert own["numbers"] > 3e7
        assert own["reached"] >= 0.95 * own["numbers"]


@pytest.mark.slow
def test_every_model_passes_every_verb_today(tmp_path: Path) -> None:
    _run(tmp_path)
    for own in map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines()):
        assert "crash" not in own
        assert own["dense"] is None
        assert not _failed(own)
