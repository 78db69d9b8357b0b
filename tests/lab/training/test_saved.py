from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.compression import load_trained
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.training import represent
from sttp_riemann.lab.training.checkpoint import load_checkpoint, save_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import Inputs
from sttp_riemann.lab.training.saved import load_saved, save_network
from sttp_riemann.lab.training.storage import checkpoints
from tests.conftest import TINY


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The last checkpoint of a run."""
    folder = tmp_path_factory.mktemp("written")
    Trainer(Recipe().changed(**TINY), folder).run()
    return checkpoints(folder)[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "dense"},
        {"frames": "householder"},
        {"rank": {"linear": 2, "*": 0.5}},
        {"budget": 0.6, "init": "dense"},
        {"ema": 0.5},
    ],
)
def test_a_network_is_built_again_without_its_data(changes, tiny, tmp_path, monkeypatch):
    run = Trainer(tiny(**changes), tmp_path)
    run.run()
    trained = run.task.player.result.eval()
    monkeypatch.setattr(represent, "load_dataset", lambda *args, **kwargs: pytest.fail("the data were loaded"))
    represent._load.cache_clear()
    saved = load_saved(tmp_path)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(saved.network(x), trained(x))
    assert saved.inputs == Inputs((1, 8, 8), 10)


def test_a_gan_has_two_networks_and_no_classifier(tmp_path):
    from sttp_riemann.lab import recipes

    changes = {"steps": 1, "batch_size": 4, "metrics": [], "discriminator_steps": 1, "device": "cpu", "threads": 1}
    recipe = Recipe.from_dict(recipes.read("gan-digits")).changed(**changes, method="sttp", generator_method="follow")
    Trainer(recipe, tmp_path).run()
    saved = load_saved(tmp_path)
    assert list(saved.players) == ["discriminator", "generator"]
    with pytest.raises(RecipeError, match="holds a discriminator and a generator: name a checkpoint of one network"):
        saved.network  # noqa: B018


def test_what_is_no_checkpoint_of_a_network_is_refused_by_name(tiny, tmp_path):
    with pytest.raises(RecipeError, match=r"has no checkpoint of a run: name a file$"):
        load_saved(tmp_path)
    Trainer(tiny(), tmp_path / "run").run()
    (path,) = checkpoints(tmp_path / "run")
    checkpoint = load_checkpoint(path)
    del checkpoint.values["inputs"]
    save_checkpoint(tmp_path / "other.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match=r"other.safetensors does not say which network it is of"):
        load_saved(tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match=r"name a file, such as other.safetensors"):
        load_saved(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("recipe", [], "recipe is not a mapping"),
        ("recipe", {"optimizer": {"lr": {}}}, "lr must be a number"),
        ("recipe", {"warp": 9}, "write it again"),
        ("inputs", {}, "inputs has no shape"),
        ("inputs", {"shape": ["1"], "num_classes": 10, "kind": "images"}, "an item of shape is not a whole number"),
        ("inputs", {"shape": [1, 8, 8], "num_classes": 10, "kind": "images", "more": 1}, "more"),
        ("inputs", {"shape": [1, 8, 8], "num_classes": 10, "kind": "sounds"}, "Inputs"),
        ("inputs", {"shape": [1, 8], "num_classes": 10, "kind": "images"}, "Inputs"),
        ("inputs", {"shape": [-1, 8, 8], "num_classes": 10, "kind": "images"}, "Inputs"),
        ("ranks", [], "ranks is not a mapping"),
        ("ranks", {"classifier": {"conv1": "4"}}, "conv1 is not a whole number"),
        ("progress", [], "it is not a mapping"),
        ("progress", {"history": [3]}, "it has no step"),
    ],
)
def test_values_of_wrong_types_are_refused_by_name(key, value, message, written, tmp_path):
    checkpoint = load_checkpoint(written)
    checkpoint.values[key] = value
    save_checkpoint(tmp_path / "changed.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match=r"changed.safetensors does not say which network it is of") as error:
        load_saved(tmp_path / "changed.safetensors")
    assert message in str(error.value)


def test_a_classifier_that_no_run_is_of_tells_no_accuracy(tmp_path):
    model = build_model("digits_resnet", num_classes=10, in_channels=1, width=8, depth=1)
    recipe = Recipe().changed(**TINY)
    path = tmp_path / "dense.safetensors"
    save_network(path, model, recipe.changed(method="dense"), Inputs((1, 8, 8), 10))
    assert load_trained(str(path)).accuracy is None


def test_a_file_that_is_no_checkpoint_is_refused_without_advice_to_delete_it(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"mine.pth is truncated or not a safetensors file") as error:
        load_trained(str(path))
    assert "delete" not in str(error.value)
