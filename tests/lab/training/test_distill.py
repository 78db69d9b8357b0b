"""Learning from a trained network."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.classify import Classification
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.machine import build_accelerator


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A checkpoint of a small dense run."""
    from sttp_riemann.lab.training.recipe import Recipe
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("teacher")
    Trainer(Recipe().changed(**{**TINY, "method": "dense", "steps": 20}), folder).run()
    return str(folder)


def task(recipe) -> Classification:
    torch.manual_seed(recipe.seed)
    return Classification(recipe, build_accelerator(recipe))


def test_the_distance_is_the_divergence_of_softened_classes(tiny, taught):
    teacher = task(tiny(teacher=taught, temperature=3.0)).teacher
    images, scores = torch.randn(5, 1, 8, 8), torch.randn(5, 10)
    p, q = softmax(teacher.network(images) / 3, 1), softmax(scores / 3, 1)
    expected = 9 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(teacher.distance(images, scores), expected)
    assert float(teacher.distance(images, teacher.network(images))) == pytest.approx(0, abs=1e-6)


def test_the_loss_is_shared_between_labels_and_teacher_and_only_labels_are_told(tiny, taught):
    run = task(tiny(method="dense", teacher=taught, distill=0.25))
    images, labels = run.data.batch(torch.arange(16))
    scores = run.player.model.train()(images)
    entropy, told = cross_entropy(scores, labels), []
    expected = 0.75 * entropy + 0.25 * run.teacher.distance(images, scores)
    torch.testing.assert_close(run._loss((images, labels), told), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(told[0], entropy, rtol=1e-5, atol=1e-6)


def test_the_teacher_stays_as_it_is(tiny, taught):
    run = task(tiny(teacher=taught))
    before = {name: value.clone() for name, value in run.teacher.network.state_dict().items()}
    for _ in range(3):
        run.step(lambda: torch.arange(32), 1e-2)
    assert all(torch.equal(before[name], value) for name, value in run.teacher.network.state_dict().items())


def test_a_run_with_a_teacher_goes_on_bit_for_bit(tiny, taught, tmp_path):
    recipe = tiny(teacher=taught)
    whole = Trainer(recipe, tmp_path / "whole")
    whole.run()
    broken = Trainer(recipe, tmp_path / "broken")
    step = broken.task.step
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    broken.task.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = Trainer(recipe, tmp_path / "broken")
    assert 0 < resumed.progress.step < 4
    resumed.run()
    pairs = zip(whole.task.player.model.parameters(), resumed.task.player.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_teacher_of_other_images_is_refused(tiny, taught):
    with pytest.raises(RecipeError, match=r"teacher .* is for Inputs\(shape=\(1, 8, 8\)"):
        task(tiny(teacher=taught, image_size=16))


def test_a_teacher_that_is_not_there_is_refused_by_name(tiny, tmp_path):
    with pytest.raises(RecipeError, match=r"none\.safetensors"):
        task(tiny(teacher=str(tmp_path / "none.safetensors")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distill": 1.5}, "distill must be a number from 0 to 1, not 1.5"),
        ({"temperature": 0.0}, "temperature must be a number from 0.001 to 1,000, not 0.0"),
        ({"task": "gan", "teacher": "x"}, "teacher is for task 'classify'"),
    ],
)
def test_what_cannot_be_is_refused(fields, message, tiny):
    with pytest.raises(RecipeError, match=message):
        tiny(**fields)
