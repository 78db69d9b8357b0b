from __future__ import annotations

import pytest
import torch

from sttp_riemann.training import represent
from sttp_riemann.training.checkpoint import load_checkpoint, save_checkpoint
from sttp_riemann.training.errors import CheckpointError, RecipeError
from sttp_riemann.training.loop import Trainer
from sttp_riemann.training.saved import load_saved
from sttp_riemann.training.storage import checkpoints


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
    trained = run.task.classifier.result.eval()
    monkeypatch.setattr(represent, "load_dataset", lambda *args, **kwargs: pytest.fail("the data were loaded"))
    represent._load.cache_clear()
    saved = load_saved(tmp_path)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(saved.classifier(x), trained(x))
    assert (saved.images.channels, saved.images.image_size, saved.images.num_classes) == (1, 8, 10)


def test_a_gan_has_two_networks_and_no_classifier(tmp_path):
    from sttp_riemann import recipes
    from sttp_riemann.training.recipe import Recipe

    changes = {"steps": 1, "batch_size": 4, "metrics": [], "discriminator_steps": 1, "device": "cpu", "threads": 1}
    recipe = Recipe.from_dict({**recipes.read("gan-digits"), **changes, "method": "sttp", "generator_method": "follow"})
    Trainer(recipe, tmp_path).run()
    saved = load_saved(tmp_path)
    assert list(saved.players) == ["discriminator", "generator"]
    with pytest.raises(RecipeError, match="holds a discriminator and a generator: name a checkpoint of a classifier"):
        saved.classifier  # noqa: B018


def test_what_is_no_checkpoint_of_a_network_is_refused_by_name(tiny, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no checkpoint of a run: name a file$"):
        load_saved(tmp_path)
    Trainer(tiny(), tmp_path / "run").run()
    (path,) = checkpoints(tmp_path / "run")
    checkpoint = load_checkpoint(path)
    del checkpoint.values["images"]
    save_checkpoint(tmp_path / "other.safetensors", checkpoint)
    with pytest.raises(CheckpointError, match=r"other.safetensors does not say of what network it is"):
        load_saved(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"name a file, such as other.safetensors"):
        load_saved(tmp_path)
