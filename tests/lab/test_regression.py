"""A regression of arrays of the user's own, from the command line to a compressed network."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from sttp_riemann import lab
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.studies.probing import condition, probe
from sttp_riemann.lab.studies.report import HTML, LATEX, MARKDOWN
from sttp_riemann.lab.training.saved import load_saved

NET = """
    from torch import nn

    def mlp(num_classes, in_channels, width=8):
        return nn.Sequential(nn.Linear(in_channels, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
GIVEN = ["--task", "regress", "--network", "mynet:mlp", "--data", "arrays:line.npz"]
SMALL = ["--rank", "2", "--steps", "20", "--batch_size", "16", "--evaluate_every", "5", "--validation", "0.25"]
SMALL += ["--device", "cpu", "--threads", "1"]


@pytest.fixture
def folder(own):
    """A working directory with a network, and arrays of five numbers with a label that is one."""
    folder = own(mynet=NET)
    x = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    np.savez("line.npz", train_x=x, train_y=x[:, 0] - x[:, 1])
    return folder


def test_a_regression_is_compared_reported_inspected_exported_and_compressed_by_r2(folder, capsys):
    study = ["--methods", "dense", "sttp", "--paths", "riemannian", "--seeds", "0", "--target", "0.5"]
    assert cli.main(["compare", *GIVEN, *SMALL, *study, "--output", "study"]) == 0
    told = capsys.readouterr()
    assert "dense lr=0.002, seed 0: test R² " in told.out + told.err
    for name in (MARKDOWN, HTML, LATEX):
        text = (folder / "study" / name).read_text().partition("Recipe</h2>")[0].partition("## Recipe")[0]
        for word in ("test R²", "validation R²", "test RMSE", "steps to R² 0.5"):
            assert word in text, (name, word)
        assert "accuracy" not in text, name
    assert "R² is 1 less the sum of squared errors" in (folder / "study" / HTML).read_text()
    run = next((folder / "study").rglob("dense-*/seed0"))
    final = json.loads((run / "result.json").read_text())["final"]
    assert final["test_rmse"] ** 2 == pytest.approx(final["test_loss"])
    assert cli.main(["inspect", str(run)]) == 0
    assert "regressor\nlayer" in capsys.readouterr().out
    assert cli.main(["export", str(run), "--to", "line.pt2"]) == 0
    x = torch.randn(3, 5)
    network = load_saved(run).network
    torch.testing.assert_close(torch.export.load(folder / "line.pt2").module()(x), network(x))
    assert cli.main(["compress", str(run), "--rank", "2", "--epochs", "1", "--output", "small"]) == 0
    assert "test R²: dense " in capsys.readouterr().out
    found = json.loads((folder / "small" / "compression.json").read_text())
    assert (found["measured"], [*found["accuracies"]]) == ("test_r2", ["dense", "compressed", "fine_tuned"])
    assert load_saved(folder / "small" / "compressed.safetensors").network(x).shape == (3, 1)
    np.savez("kinds.npz", train_x=np.zeros((80, 5), np.float32), train_y=np.arange(80) % 2)
    other = ["--data", "arrays:kinds.npz", "--calibrate", "8", "--output", "other"]
    assert cli.main(["compress", str(run), "--rank", "2", *other]) == 2
    assert "those of the data 'arrays:kinds.npz' are integers: save them as floats" in capsys.readouterr().err
    assert not (folder / "other").exists()


def test_weights_of_a_regression_are_compressed_with_its_data_and_without_a_teacher(folder, capsys):
    torch.manual_seed(0)
    shapes = {"0.weight": (8, 5), "0.bias": (8,), "2.weight": (1, 8), "2.bias": (1,)}
    torch.save({name: torch.randn(shape) for name, shape in shapes.items()}, folder / "line.pth")
    given = ["compress", "line.pth", "--network", "mynet:mlp", "--rank", "2", "--output", "small"]
    assert cli.main([*given, "--data", "arrays:line.npz", "--epochs", "1"]) == 0
    assert "compressed" in capsys.readouterr().out
    assert list(load_saved(folder / "small" / "compressed.safetensors").players) == ["regressor"]
    assert cli.main([*given, "--data", "arrays:line.npz", "--epochs", "1", "--distill", "0.3"]) == 2
    assert "distill is for task 'classify', and this is 'regress': leave it out" in capsys.readouterr().err


def test_both_paths_of_a_regression_are_ablated_and_probed(folder, monkeypatch):
    (folder / "line.yaml").write_text(
        "task: regress\ndata: {name: 'arrays:line.npz'}\nstudy: {methods: [sttp], seeds: [0]}\n"
        "schedule: {steps: 20, batch_size: 16}\nmachine: {device: cpu, threads: 1}\n"
    )
    planned = []
    monkeypatch.setattr("sttp_riemann.lab.studies.ablate.compare", lambda *given: planned.extend(given[-1]))
    lab.ablate("line.yaml", ranks=[2], rates=[1e-2], output="study", network="mynet:mlp")
    recipes = [recipe for recipe, _, _ in planned]
    assert [recipe.network.frames for recipe in recipes] == ["riemannian", "householder"]
    for recipe in recipes:
        seen = probe(recipe)
        assert len(seen.norms) == 20
        assert math.isfinite(condition(seen.end))
