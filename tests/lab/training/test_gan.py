from __future__ import annotations

import json
import sys

import pytest
import torch
from torch.nn.utils import parametrize

import sttp_riemann as sr
from sttp_riemann.errors import DivergedError, RecipeError
from sttp_riemann.lab.training.gan import Gan
from sttp_riemann.lab.training.gan_losses import LOSSES, GanLoss
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.machine import build_accelerator
from sttp_riemann.lab.training.order import DataOrder
from sttp_riemann.model.reparameterize import spectral_layers


def task(recipe) -> Gan:
    torch.manual_seed(recipe.seed)
    return Gan(recipe, build_accelerator(recipe))


def draws(recipe, gan):
    return DataOrder(gan.size, recipe.schedule.batch_size, recipe.seed).draw


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_step_moves_both_networks(loss, conditional, tiny_gan):
    recipe = tiny_gan(gan_loss=loss, conditional=conditional)
    gan = task(recipe)
    before = {name: [p.detach().clone() for p in player.model.parameters()] for name, player in gan.players.items()}
    gan.step(draws(recipe, gan), 1e-2)
    for name, player in gan.players.items():
        assert any(not torch.equal(a, b) for a, b in zip(before[name], player.model.parameters(), strict=True)), name


def test_the_discriminator_steps_as_often_as_asked_on_batches_of_its_own(tiny_gan):
    recipe = tiny_gan(discriminator_steps=3)
    gan, order = task(recipe), DataOrder(1437, 8, 0)
    seen = []
    gan.step(lambda: seen.append(order.draw()) or seen[-1], 1e-2)
    assert len(seen) == 3
    assert len(torch.cat(seen).unique()) == 24
    steps = {int(state["step"]) for state in gan.discriminator.optimizer.state.values()}
    assert steps == {3}
    assert {int(state["step"]) for state in gan.generator.optimizer.state.values()} == {1}


def test_the_discriminator_may_have_a_rate_of_its_own_which_falls_with_the_other(tiny_gan):
    recipe = tiny_gan(lr=1e-3, discriminator_lr=4e-3)
    gan = task(recipe)
    gan.step(draws(recipe, gan), 5e-4)
    rates = {name: {group["lr"] for group in player.optimizer.param_groups} for name, player in gan.players.items()}
    assert rates == {"discriminator": {2e-3}, "generator": {5e-4}}


def test_the_generators_step_leaves_the_discriminator_alone(tiny_gan):
    gan = task(tiny_gan(method="dense"))
    before = [p.detach().clone() for p in gan.discriminator.model.parameters()]
    gan._step_generator(1e-2)
    assert all(torch.equal(a, b) for a, b in zip(before, gan.discriminator.model.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in gan.discriminator.model.parameters())


def test_a_paired_generator_has_real_images_of_its_own_and_their_classes(tiny_gan, monkeypatch):
    recipe = tiny_gan(gan_loss="relativistic", conditional=True, discriminator_steps=1)
    gan, order = task(recipe), DataOrder(1437, 8, 0)
    drawn, seen = [], []
    monkeypatch.setattr(
        "sttp_riemann.lab.training.gan.call",
        lambda network, inputs, labels, classes: seen.append((inputs, labels)) or network(inputs, labels),
    )
    gan.step(lambda: drawn.append(order.draw()) or drawn[-1], 1e-2)
    assert len(drawn) == 2
    assert not set(drawn[0].tolist()) & set(drawn[1].tolist())
    # Noise for the generator, then images for the discriminator, in either step
    for indices, (_, asked), (images, labels) in zip(drawn, seen[::2], seen[1::2], strict=True):
        real, classes = gan.data.batch(indices)
        assert torch.equal(images[:8], real)
        assert torch.equal(labels, torch.cat([classes, classes]))
        assert torch.equal(asked, classes)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tiny_gan, monkeypatch):
    # The loss on real images alone, as parts draw other noise than the whole
    monkeypatch.setattr(
        "sttp_riemann.lab.training.gan.LOSSES", {"hinge": GanLoss(lambda real, _: real.mean(), torch.sum)}
    )
    gradients = []
    for count in (1, 2):
        recipe = tiny_gan(method="dense", accumulate=count, discriminator_steps=1)
        gan = task(recipe)
        gan._step_discriminator(torch.arange(8), 1e-2)
        gradients.append(torch.cat([p.grad.flatten() for p in gan.discriminator.model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_methods_begin_with_the_same_generator(tiny_gan):
    weights = [
        torch.cat([p.flatten() for p in task(tiny_gan(method=method)).generator.model.parameters()])
        for method in ("dense", "sn", "sr", "svdp", "sttp")
    ]
    assert all(torch.equal(weights[0], other) for other in weights[1:])


def test_both_networks_are_represented_each_in_its_own_way(tiny_gan):
    gan = task(
        tiny_gan(
            method="sttp",
            rank=4,
            generator_method="svdp",
            generator_frames="householder",
            generator_rank=3,
            generator_spectrum="learned",
            generator_exclude=["linear"],
        )
    )
    ours, theirs = spectral_layers(gan.discriminator.model), spectral_layers(gan.generator.model)
    assert {layer.frames for layer in ours.values()} == {"riemannian"}
    assert {layer.frames for layer in theirs.values()} == {"householder"}
    assert max(layer.rank for layer in ours.values()) == 4
    assert max(layer.rank for layer in theirs.values()) == 3
    assert "linear" not in theirs
    assert isinstance(gan.generator.optimizer, torch.optim.Adam)
    assert isinstance(gan.discriminator.optimizer, sr.RiemannianAdam)


@pytest.mark.parametrize(("method", "expected"), [("sn", "dense"), ("sttp", "sttp")])
def test_a_generator_that_follows_takes_low_rank_methods_alone(method, expected, tiny_gan):
    assert task(tiny_gan(method=method, generator_method="follow")).generator.recipe.network.method == expected


@pytest.mark.parametrize("method", ["sn", "sr"])
def test_every_layer_of_a_baseline_is_held(method, tiny_gan):
    model = task(tiny_gan(method=method)).discriminator.model
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert layers
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)


def test_only_the_generator_is_averaged(tiny_gan):
    gan = task(tiny_gan(ema=0.9))
    assert gan.discriminator.average is None
    assert gan.generator.result is gan.generator.average.module


@pytest.mark.parametrize(("own", "expected"), [({}, 1.0), ({"generator_penalty_weight": 0.75}, 0.75)])
def test_the_penalty_of_each_player_has_its_own_weight(own, expected, tiny_gan):
    gan = task(
        tiny_gan(
            spectrum="learned", penalty="d_optimal", penalty_weight=2.0, generator_method="sttp", init="orthogonal",
            **own,
        )
    )  # fmt: skip
    for player, weight in ((gan.discriminator, 2.0), (gan.generator, expected)):
        with torch.no_grad():
            for layer in (m for m in player.model.modules() if getattr(m, "spectrum", None) is not None):
                layer.spectrum[-1] = 0.5
        assert player.penalty().item() > 0
        assert player.penalty().item() == pytest.approx(weight * sr.spectral_penalty(player.model).item())


def test_a_nan_ends_the_run_with_one_line(tiny_gan, tmp_path):
    recipe = tiny_gan(method="dense", gan_loss="wasserstein", lr=1e30, decay="none")
    with pytest.raises(DivergedError, match="dense, seed 0"):
        Trainer(recipe, tmp_path).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16}, "makes images of 8 pixels, and the data's have 16: set image_size to 8"),
        ({"generator": "digits_resnet", "generator_options": {}}, "makes no images: choose one such as sngan32_gen"),
        ({"generator": "sngan8_generatr"}, "did you mean 'sngan8_generator'"),
        ({"generator_method": "sttp", "generator_exclude": ["head"]}, "exclude names 'head'"),
        ({"label_smoothing": 0.1}, "label_smoothing is for task 'classify'"),
        ({"metrics": ["kid"], "metric_samples": 10, "kid_subset_size": 20}, "kid_subset_size 20 is more than"),
        (
            {"metrics": ["kid"], "metric_samples": 2000, "kid_subset_size": 1800, "extractor": "digits"},
            "kid_subset_size 1800 is more than the 1437 real images: lower it",
        ),
        ({"penalty": "d_optimal", "spectrum": "learned", "generator_spectrum": "identity", "generator_method": "sttp"},
         "generator_penalty 'd_optimal' has nothing to act on"),
        ({"task": "classify", "method": "sn"}, "generator is for task 'gan', and this is 'classify': leave it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(changes, message, tiny_gan):
    with pytest.raises(RecipeError, match=message) as caught:
        task(tiny_gan(**changes))
    assert "\n" not in str(caught.value)


def test_data_without_labels_is_refused_for_conditional_networks(tiny_gan, monkeypatch):
    from sttp_riemann.lab.training import task as tasks

    data = tasks.load_data(tiny_gan())
    monkeypatch.setattr(tasks, "load_data", lambda recipe: data.__class__(
        data.train_images, data.train_labels, data.test_images, data.test_labels, 0, 1, 8))  # fmt: skip
    with pytest.raises(RecipeError, match="have no classes to be conditional on: set conditional to false"):
        task(tiny_gan(conditional=True))


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"method": "dense"}, "dense"),
        ({"method": "sn", "frames": "householder"}, "sn"),
        ({"method": "sttp"}, "sttp-c-riemannian"),
        ({"method": "svdp", "spectrum": "learned", "frames": "householder"}, "svdp-l-householder"),
        ({"method": "sttp", "spectrum": "learned", "penalty": "d_optimal"}, "sttp-r-riemannian"),
        ({"method": "sttp", "spectrum": "free"}, "sttp-other-riemannian"),
    ],
)
def test_a_variant_has_the_papers_letter(changes, label, tiny_gan):
    assert tiny_gan(**changes).label == label


def test_metrics_that_cannot_be_had_are_refused_before_any_step(tiny_gan, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        RecipeError, match=r"metrics: .*, which the Inception network needs, is not on this machine: set download"
    ):
        task(tiny_gan(metrics=["fid"], metric_samples=16))


def test_missing_torch_fidelity_is_one_line_with_the_remedy(tiny_gan, monkeypatch):
    monkeypatch.setitem(sys.modules, "sttp_riemann.lab.metrics", None)
    with pytest.raises(RecipeError, match=r"metrics need torch-fidelity: pip install 'sttp-riemann\[gan\]'"):
        task(tiny_gan(metrics=["fid"], metric_samples=16))


def test_operator_norms_are_recorded_where_asked_for(tiny_gan):
    gan = task(tiny_gan(operator_norms=True))
    gan.evaluate()
    layers = json.loads(gan.records(7)["stability/000000007.json"])["layers"]
    assert layers["blocks.0.conv1"]["operator_norm"] > 0
    assert "operator_norm" not in layers["linear"]


def test_evaluating_changes_no_network(tiny_gan):
    gan = task(tiny_gan(method="sn", ema=0.9))
    before = {
        (name, key): tensor.clone()
        for name, player in gan.players.items()
        for key, tensor in player.model.state_dict().items()
    }
    assert gan.evaluate() == gan.evaluate()
    for (name, key), tensor in before.items():
        assert torch.equal(tensor, gan.players[name].model.state_dict()[key]), (name, key)


@pytest.mark.parametrize(
    ("figures", "score"),
    [({"fid": 3.0, "is": 5.0, "diversity": 1.0}, -3), ({"is": 5.0, "diversity": 1.0}, 5), ({"diversity": 0.9}, 0.9)],
)
def test_the_best_evaluation_is_that_of_the_first_metric_there_is(figures, score, tiny_gan):
    assert task(tiny_gan()).score(figures) == score
