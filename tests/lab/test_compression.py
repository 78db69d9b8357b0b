"""Compressing trained networks, as a library and from the command line."""

from __future__ import annotations

import functools
import json
import statistics
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.files import LOCK, Lock
from sttp_riemann.lab import compression as compressing
from sttp_riemann.lab import recipes
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.compression import compress, load_trained
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import load_data
from sttp_riemann.lab.training.saved import load_saved
from tests.conftest import TINY

STAGES = {"dense": "dense", "compressed": "compressed", "fine-tuned": "fine_tuned"}


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A run folder with a dense network that was trained on the digits."""
    folder = tmp_path_factory.mktemp("dense") / "run"
    fields = {**TINY, "method": "dense", "name": "small", "steps": 60, "evaluate_every": 60, "checkpoint_every": 60}
    Trainer(Recipe().changed(**{**fields, "network_options": {"width": 16, "depth": 1}}), folder).run()
    return folder


@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_at_full_rank_every_weight_is_reproduced(dense, tmp_path, method):
    trained = load_trained(str(dense))
    found = compress(trained, tmp_path, {"rank": 1.0, "method": method})
    wanted = dict(trained.model.named_modules())
    for row in found.sizes.layers:
        assert row.dense_error < 1e-5
        torch.testing.assert_close(
            found.model.get_submodule(row.name).weight, wanted[row.name].weight.detach(), rtol=0, atol=1e-5
        )
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(found.model(x), trained.model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_the_error_falls_monotonically_with_rank(dense, tmp_path, method, frames):
    trained = load_trained(str(dense))
    steps = [
        [
            row.dense_error
            for row in compress(trained, tmp_path, {"rank": r, "method": method, "frames": frames}).sizes.layers
        ]
        for r in (1, 2, 4, 6, 8, 12, 16, 48)
    ]
    for before, after in pairwise(steps):
        assert all(b <= a + 1e-6 for a, b in zip(before, after, strict=True))
    assert all(first > 0.1 and last < 1e-5 for first, last in zip(steps[0], steps[-1], strict=True))


def test_what_is_written_is_the_network_and_its_errors(dense, tmp_path):
    found = compress(load_trained(str(dense)), tmp_path, {"budget": 0.3})
    saved = load_saved(tmp_path / "compressed.safetensors")
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(saved.network(x), found.model(x), rtol=1e-5, atol=1e-5)
    figures = json.loads((tmp_path / "compression.json").read_text())
    assert figures["ratio"] <= 30
    assert figures["bytes"] == (tmp_path / "compressed.safetensors").stat().st_size
    assert figures["dense_bytes"] == 4 * sum(
        t.numel() for t in load_trained(str(dense)).model.state_dict().values() if t.ndim
    )
    assert [row["dense_error"] for row in figures["layers"]] == [row.dense_error for row in found.sizes.layers]
    table = (tmp_path / "compression.txt").read_text()
    assert all(f"{row.name:14s} {row.dense_error:14.2e}\n" in table for row in found.sizes.layers)


def test_fine_tuning_goes_on_from_the_compressed_weights(dense, tmp_path):
    found = compress(load_trained(str(dense)), tmp_path, {"budget": 0.4, "lr": 1e-9}, epochs=1, calibrate=0)
    assert set(found.accuracies) == {"dense", "compressed", "fine_tuned"}
    assert found.accuracies["compressed"] > 0.5
    # Batch norm learns the statistics of the compressed network; nothing else moves at this rate
    alone = compress(load_trained(str(dense)), tmp_path / "alone", {"budget": 0.4})
    for name, parameter in alone.model.named_parameters():
        torch.testing.assert_close(found.model.get_parameter(name), parameter, rtol=0, atol=1e-5)
    written = load_saved(tmp_path / "compressed.safetensors").network.linear.weight
    torch.testing.assert_close(written, found.model.linear.weight)


def test_accuracy_is_told_before_after_and_after_each_epoch(dense, tmp_path):
    assert set(compress(load_trained(str(dense)), tmp_path / "alone", {"budget": 0.4}).accuracies) == {
        "dense",
        "compressed",
    }
    found = compress(load_trained(str(dense)), tmp_path, {"budget": 0.4}, epochs=2)
    told = (tmp_path / "compression.txt").read_text()
    assert [line.split(":")[0] for line in told.splitlines() if line.startswith("epoch ")] == ["epoch 1", "epoch 2"]
    # Of 1,437 images; with a fifth held out, of 1,150
    assert [row["step"] for row in found.history] == [45, 90]
    held = compress(load_trained(str(dense)), tmp_path / "held", {"budget": 0.4, "validation": 0.2}, epochs=1)
    assert [row["step"] for row in held.history] == [36]
    assert "epoch 1: validation accuracy" in str(held)
    assert all(f"{name} {100 * found.accuracies[key]:.2f} %" in told for name, key in STAGES.items())


def test_the_same_command_goes_on_where_it_was(dense, tmp_path):
    first, second = (compress(load_trained(str(dense)), tmp_path, {"budget": 0.4}, epochs=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert len(list(tmp_path.glob("fine-tuning-*"))) == 1


def test_fine_tuning_another_start_is_another_run(dense, tmp_path):
    for budget in (0.4, 0.5):
        compress(load_trained(str(dense)), tmp_path, {"budget": budget}, epochs=1)
    assert len(list(tmp_path.glob("fine-tuning-*"))) == 2


def test_the_average_of_a_fine_tuning_starts_from_the_compressed_weights(dense, tmp_path):
    found = compress(load_trained(str(dense)), tmp_path, {"budget": 0.7, "ema": 0.9999}, epochs=1)
    # An average that began elsewhere would be of little use after so few steps
    assert found.accuracies["fine_tuned"] > 0.5


def test_a_torchvision_network_with_weights_from_a_file(tmp_path, capsys):
    network = build_model("torchvision:squeezenet1_1", num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    x = torch.randn(1, 3, 64, 64)
    for suffix in ("safetensors", "pth"):
        trained = load_trained("torchvision:squeezenet1_1", tmp_path / f"weights.{suffix}")
        assert torch.equal(trained.model(x), network(x))
    options = ["--rank", "2", "--weights", str(tmp_path / "weights.pth"), "--output", str(tmp_path / "out")]
    assert cli.main(["compress", "torchvision:squeezenet1_1", *options]) == 0
    assert f"written to: {tmp_path / 'out'}" in capsys.readouterr().out
    saved = load_saved(tmp_path / "out" / "compressed.safetensors")
    assert saved.network(x).shape == (1, 7)
    assert saved.inputs.num_classes == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DENSE"], "how far to compress: give --budget, such as 0.1, or --rank"),
        (["DENSE", "--rank", "2", "--budget", "0.1"], "give either --rank or --budget"),
        (["DENSE", "--budget", "1e-3"], "set budget to at least 0."),
        (["DENSE", "--budget", "2"], "--budget must be a number above 0 and at most 1, not '2'"),
        (["DENSE", "--rank", '{"linear": 2}'], "rank names no rank for layer 'conv1'; add a pattern for it, or '*'"),
        (["DENSE", "--rank", '{"linaer": 2, "*": 3}'], "rank names 'linaer', which matches no layer"),
        (["DENSE", "--rank", "2", "--method", "dense"], "method 'dense' does not compress"),
        (["DENSE", "--rank", "2", "--epochs", "-1"], "--epochs must be a whole number from 0 to"),
        (["DENSE", "--rank", "2", "--calibrate", "-1"], "--calibrate must be a whole number from 0 to"),
        (["DENSE", "--rank", "2", "--weights", "x.pth"], "--weights is for a torchvision:NAME"),
        (["DENSE", "--rank", "2", "--steps", "3"], "unrecognized arguments: --steps 3"),
        (["torchvision:resnet19", "--rank", "2"], "unknown torchvision network 'resnet19'"),
        (["torchvision:resnet18", "--rank", "2"], "the weights of 'torchvision:resnet18' are not here: allow download"),
        (["torchvision:resnet18", "--rank", "2", "--weights", "none.pth"], "weights none.pth cannot be read"),
    ],
)
def test_what_cannot_be_compressed_is_one_clear_line_and_status_2(
    arguments, message, dense, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert cli.main(["compress", *(str(dense) if a == "DENSE" else a for a in arguments)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


def test_data_of_other_classes_are_refused(dense, tmp_path):
    trained = load_trained(str(dense))
    other = replace(trained, inputs=replace(trained.inputs, num_classes=7))
    with pytest.raises(RecipeError, match="data 'digits' are for 10 outputs and the network has 7"):
        compress(other, tmp_path, {"rank": 2}, epochs=1)


def test_only_a_dense_network_is_compressed(dense, tmp_path):
    compress(load_trained(str(dense)), tmp_path, {"rank": 2})
    with pytest.raises(RecipeError, match="holds a network of method 'sttp': name one of method 'dense'"):
        load_trained(str(tmp_path / "compressed.safetensors"))


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(build_model("torchvision:squeezenet1_0").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(RecipeError, match=r"weights.pth does not fit 'torchvision:resnet18'"):
        load_trained("torchvision:resnet18", tmp_path / "weights.pth")


def test_measured_inputs_keep_more_of_the_accuracy(dense, tmp_path):
    trained = load_trained(str(dense))
    data, hits = load_data(trained.recipe), {}
    for calibrate in (0, 256):
        model = compress(trained, tmp_path / str(calibrate), {"budget": 0.25}, calibrate=calibrate).model.eval()
        images, labels = data.batch(range(len(data.test_images)), train=False)
        hits[calibrate] = float((model(images).argmax(1) == labels).double().mean())
    assert hits[256] > hits[0] + 0.1


def test_the_dense_network_teaches_unless_told_otherwise(dense, tmp_path):
    trained = load_trained(str(dense))
    for distill, taught in ((0.5, True), (0.0, False)):
        folder = tmp_path / str(distill)
        compress(trained, folder, {"budget": 0.4, "distill": distill, "lr": 1e-3}, epochs=1)
        assert (folder / "dense.safetensors").exists() == taught
    teacher = load_saved(tmp_path / "0.5" / "dense.safetensors").network
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(teacher(x), trained.model(x))


@pytest.mark.slow
@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("name", ["digits", "digits-compression"])
def test_a_tenth_of_the_numbers_and_two_epochs_keep_the_mean_accuracy(trained_on_digits, tmp_path, name, frames):
    # Chosen on a fourth of the training images, held back
    tuning = {"batch_size": 16, "lr": 1e-3}
    gaps = []
    for run in trained_on_digits(name):
        trained = load_trained(str(run))
        found = compress(trained, tmp_path / run.name, {"budget": 0.1, "frames": frames, **tuning}, epochs=2)
        assert found.sizes.ratio <= 10
        gaps.append(found.accuracies["dense"] - found.accuracies["fine_tuned"])
    assert statistics.fmean(gaps) < 0.01, gaps


@pytest.fixture(scope="module")
def trained_on_digits(tmp_path_factory):
    """The dense network of a recipe, from each of its seeds."""

    @functools.cache
    def train(name):
        folder = tmp_path_factory.mktemp(name)
        study = Recipe.from_dict(recipes.read(name)).changed(ranks={}, method="dense", device="cpu")
        for seed in study.study.seeds:
            Trainer(study.changed(seed=seed), folder / f"seed{seed}").run()
        return sorted(folder.iterdir())

    return train


def test_a_folder_that_another_compression_is_in_is_refused(dense, tmp_path):
    with Lock(tmp_path), pytest.raises(CheckpointError, match="another run is in"):
        compress(load_trained(str(dense)), tmp_path, {"rank": 4})
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_an_output_that_cannot_be_written_is_told_of_before_the_weights_are_taken_apart(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(compressing, "represent", lambda *_: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"compressed.safetensors cannot be written"):
        compress(load_trained(str(dense)), tmp_path / "file", {"rank": 4})
