"""Labels of places, as of the words of a sentence: from the command line to a compressed network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sttp_riemann.lab import plugins
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.training.classify import Classification
from sttp_riemann.lab.training.machine import build_accelerator
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.saved import load_saved

NET = """
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self, num_classes, width=16):
            super().__init__()
            self.words, self.head = nn.Embedding(20, width), nn.Linear(width, num_classes)
            self.mix = nn.Conv1d(width, width, 3, padding=1)

        def forward(self, text):
            x = self.words(text)
            return self.head(x + self.mix(x.mT).mT.relu())

    def whole(num_classes):
        return nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(24, num_classes))
"""
GIVEN = ["--network", "mynet:Tagger", "--data", "arrays:tags.npz"]
SMALL = ["--rank", "3", "--steps", "40", "--batch_size", "16", "--evaluate_every", "20", "--validation", "0.25"]
SMALL += ["--device", "cpu", "--threads", "1"]


@pytest.fixture
def folder(own):
    """Sentences of six words, padded; a word's label is the class of it and of the word before."""
    folder, rng = own(mynet=NET), np.random.default_rng(0)
    words = rng.integers(1, 20, (120, 6))
    tags = (words + np.roll(words, 1, 1) % 2) % 3
    tags[::4, 4:], words[::4, 4:] = -100, 0
    np.savez("tags.npz", train_x=words, train_y=tags)
    return folder


def test_a_network_of_tags_is_trained_compared_inspected_exported_and_compressed(folder, capsys):
    study = ["--methods", "dense", "sttp", "--paths", "riemannian", "--seeds", "0"]
    assert cli.main(["compare", *GIVEN, *SMALL, *study, "--lr", "1e-2", "--output", "study"]) == 0
    assert "test accuracy" in (folder / "study" / "report.md").read_text()
    run = next((folder / "study").rglob("dense-*/seed0"))
    assert json.loads((run / "result.json").read_text())["final"]["test_accuracy"] > 0.5
    assert cli.main(["inspect", str(run)]) == 0
    assert cli.main(["export", str(run), "--to", "tags.pt2"]) == 0
    words, network = torch.randint(20, (3, 6)), load_saved(run).network
    assert network(words).shape == (3, 6, 3)
    torch.testing.assert_close(torch.export.load(folder / "tags.pt2").module()(words), network(words))
    capsys.readouterr()
    assert cli.main(["compress", str(run), "--rank", "2", "--epochs", "1", "--output", "small"]) == 0
    assert "test accuracy: dense " in capsys.readouterr().out


def test_loss_and_accuracy_are_of_the_places_that_have_a_class(folder):
    plugins.import_modules(["mynet"])
    recipe = Recipe().changed(
        network="mynet:Tagger",
        data="arrays:tags.npz",
        method="dense",
        device="cpu",
        batch_size=8,
        evaluate_batch_size=7,
    )
    torch.manual_seed(0)
    task = Classification(recipe, build_accelerator(recipe))
    words, tags = task.data.test_inputs, task.data.test_labels
    there = tags >= 0
    scores = task.player.model.eval()(words)
    found = task.evaluate()
    assert found["test_accuracy"] == pytest.approx(float((scores.argmax(-1) == tags)[there].float().mean()))
    assert found["test_loss"] == pytest.approx(cross_entropy(scores[there], tags[there]).item(), rel=1e-5)
    assert task.criterion(scores, tags).item() == pytest.approx(found["test_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--network", "mynet:whole"], "gives (1, 3) for one input, not scores of classes at each place, (1, 6, 3)"),
        (["--mixup", "0.2"], "mixup needs images"),
        (["--task", "regress"], "task 'regress' is for labels that are floats"),
    ],
)
def test_what_does_not_go_with_labels_of_places_is_refused_in_one_line(changes, message, folder, capsys):
    assert cli.main(["train", "digits", *GIVEN, *changes, "--output", "run"]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1


def test_images_whose_places_have_labels_cannot_be_mixed(folder, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    np.savez("maps.npz", train_x=pixels, train_y=(pixels > 99).astype(np.int64))
    given = ["--network", "digits_resnet", "--data", "arrays:maps.npz", "--output", "run"]
    assert cli.main(["train", "digits", *given, "--mixup", "0.2"]) == 2
    assert "mixup is for one label an image, and those of 'arrays:maps.npz' are of places" in capsys.readouterr().err


def test_a_language_model_is_trained_on_a_text_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song.txt").write_text("row, row, row your boat gently down the stream. " * 60)
    given = ["--data", "text:song.txt", "--network_options.width", "16", "--network_options.depth", "1", "--rank", "4"]
    small = ["--steps", "60", "--evaluate_every", "30", "--lr", "1e-2", "--method", "sttp", "--output", "run"]
    assert cli.main(["train", "text", *given, *small]) == 0
    final = json.loads((tmp_path / "run" / "result.json").read_text())["final"]
    assert final["test_accuracy"] > 0.3
    assert load_saved(tmp_path / "run").network(torch.zeros(1, 5, dtype=torch.int64)).shape[:2] == (1, 5)
