from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.classify import Classification
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.machine import build_accelerator
from sttp_riemann.lab.training.refusal import BadStepError


def task(recipe) -> Classification:
    torch.manual_seed(recipe.seed)
    return Classification(recipe, build_accelerator(recipe))


def first(count: int):
    return lambda: torch.arange(count)


def test_the_loss_told_is_the_cross_entropy_of_the_batch(tiny):
    dense = task(tiny(method="dense"))
    images, labels = dense.data.batch(torch.arange(16))
    expected = cross_entropy(dense.player.model.train()(images), labels)
    assert dense.step(first(16), 1e-2) == pytest.approx(expected.item(), rel=1e-5)


def test_labels_are_smoothed_when_asked(tiny):
    smooth = task(tiny(method="dense", label_smoothing=0.3))
    images, labels = smooth.data.batch(torch.arange(16))
    expected = cross_entropy(smooth.player.model.train()(images), labels, label_smoothing=0.3)
    assert smooth.step(first(16), 1e-2) == pytest.approx(expected.item(), rel=1e-5)


def test_mixed_labels_are_learned_from(tiny):
    pytest.importorskip("torchvision")
    assert math.isfinite(task(tiny(mixup=0.4, accumulate=2)).step(first(16), 1e-2))


def test_the_penalty_keeps_singular_values_up_and_is_not_told_as_loss(tiny):
    plain, penalized = task(tiny()), task(tiny(penalty="d_optimal", penalty_weight=100.0))
    losses = [[t.step(first(16), 1e-1) for _ in range(5)] for t in (plain, penalized)]
    assert losses[0][0] == losses[1][0]
    smallest = [sr.singular_values(t.player.model)["linear"][-1] for t in (plain, penalized)]
    assert smallest[0] < smallest[1]


def test_a_penalty_that_is_not_finite_is_told(tiny, monkeypatch):
    broken = task(tiny(penalty="d_optimal"))
    monkeypatch.setattr(sr, "spectral_penalty", lambda *_, **__: torch.tensor(math.inf, requires_grad=True))
    with pytest.raises(BadStepError, match="the loss is inf"):
        broken.step(first(16), 1e-2)


def test_evaluation_counts_every_test_image_once(tiny):
    dense = task(tiny(method="dense", evaluate_batch_size=100))
    model = dense.player.model.eval()
    images, labels = dense.data.batch(torch.arange(len(dense.data.test_images)), train=False)
    with torch.no_grad():
        scores = model(images)
    found = dense.evaluate()
    assert found["test_accuracy"] == pytest.approx((scores.argmax(1) == labels).double().mean().item())
    assert found["test_loss"] == pytest.approx(cross_entropy(scores, labels).item(), rel=1e-5)


@pytest.mark.parametrize(("method", "told"), [("dense", False), ("svdp", True), ("sttp", True)])
def test_only_low_rank_networks_tell_an_orthogonality_error(method, told, tiny):
    assert ("orthogonality_error" in task(tiny(method=method)).evaluate()) is told


def test_the_average_is_what_is_evaluated(tiny):
    averaging = task(tiny(ema=0.5))
    before = averaging.evaluate()
    averaging.player.model.linear.bias.data.fill_(100)
    assert averaging.evaluate() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "letters"}, "data 'letters': unknown data set 'letters'"),
        ({"data": "folder:/nowhere"}, "data 'folder:/nowhere': "),
        ({"network": "lenet"}, "network 'lenet': unknown network 'lenet'"),
        ({"network_options": {"width": "wide"}}, "network 'digits_resnet': "),
        ({"network_options": {"colour": 1}}, "network 'digits_resnet': unknown option"),
        ({"exclude": ["conv9"]}, "conv9"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(fields, message, tiny):
    with pytest.raises(RecipeError) as error:
        task(tiny(**fields))
    assert message in str(error.value)


def test_images_held_out_are_never_trained_on_and_the_same_for_every_seed(tiny):
    ours, other = (task(tiny(validation=0.25, seed=seed)) for seed in (0, 1))
    assert torch.equal(ours._held, other._held)
    assert ours.size == len(ours.data.train_images) - round(0.25 * len(ours.data.train_images))
    assert not set(ours._held.tolist()) & set(ours._kept.tolist())


def test_the_test_images_are_looked_at_once_where_others_are_held_out(tiny, tmp_path):
    result = Trainer(tiny(validation=0.25), tmp_path).run()
    assert all("test_accuracy" not in row and "validation_accuracy" in row for row in result["history"])
    assert {"test_accuracy", "test_loss", "validation_accuracy"} <= set(result["final"])


def test_accuracy_on_held_out_images_is_that_of_the_network(tiny):
    held = task(tiny(validation=0.25))
    images, labels = held.data.batch(held._held)
    hits = (held.player.model.eval()(images).argmax(1) == labels).double().mean()
    assert held.evaluate()["validation_accuracy"] == pytest.approx(hits.item())


def test_a_share_that_leaves_no_image_to_one_side_is_refused(tiny):
    with pytest.raises(RecipeError, match="leaves one part empty"):
        task(tiny(validation=1e-6))


@pytest.mark.parametrize("choice", [{"patience": 2}, {"keep_best": True}])
def test_nothing_is_chosen_by_the_test_images(tiny, choice):
    with pytest.raises(RecipeError, match="set validation to a share"):
        tiny(**choice)
