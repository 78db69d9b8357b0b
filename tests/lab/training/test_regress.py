"""Regression: mean squared error, R^2, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sttp_riemann.errors import DivergedError, RecipeError
from sttp_riemann.lab import plugins
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.classify import Classification
from sttp_riemann.lab.training.gan import Gan
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.machine import build_accelerator
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.regress import Regression
from sttp_riemann.lab.training.storage import BEST, checkpoints

NET = """
    from torch import nn

    def mlp(num_classes, in_channels):
        return nn.Sequential(nn.Linear(in_channels, 16), nn.ReLU(), nn.Linear(16, num_classes))

    def line(num_classes, in_channels):
        return nn.Linear(in_channels, num_classes)
"""
DATA = """
    import torch
    from torch.utils.data import TensorDataset

    x = torch.randn(80, 5, generator=torch.Generator().manual_seed(0))
    slopes = torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 3.0, 0.0, 0.0]])
    y = x @ slopes.T + torch.tensor([7.0, -2.0])

    def make():
        return TensorDataset(x, y)

    def one_number():
        return TensorDataset(x, y[:, 0].double())

    def classes():
        return TensorDataset(x, (y[:, 0] > 7).long())

    def equal():
        return TensorDataset(x, torch.full((80,), 0.1))

    def images():
        return TensorDataset((255 * x.sigmoid()).to(torch.uint8)[:, :1, None, None].expand(80, 1, 8, 8), y[:, 0])
"""
FIELDS = {
    "task": "regress",
    "network": "mynet:mlp",
    "data": "mydata:make",
    "method": "dense",
    "batch_size": 16,
    "steps": 3,
    "evaluate_every": 1,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def recipe(own):
    """A recipe of a regression of two numbers from five, with any of its fields changed."""
    own(mynet=NET, mydata=DATA)
    plugins.import_modules(["mynet", "mydata"])
    return lambda **changes: Recipe().changed(**{**FIELDS, **changes})


def task(recipe, kind=Regression):
    return kind(recipe, build_accelerator(recipe))


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_measures_are_those_of_the_definition_over_all_outputs(share, recipe):
    made = task(recipe(validation=share, evaluate_batch_size=7))
    data, part = made.data, "validation" if share else "test"
    x, y = data.test_inputs, data.test_labels
    if share:
        x, y = data.train_inputs[made._held], data.train_labels[made._held]
    squares = (made.player.model(x).double() - y.double()).square()
    spread = sum(((column - column.mean()) ** 2).sum() for column in y.double().T)
    found = made.evaluate()
    assert found == {
        f"{part}_loss": pytest.approx(squares.mean().item(), rel=1e-6),
        f"{part}_rmse": pytest.approx(squares.mean().sqrt().item(), rel=1e-6),
        f"{part}_r2": pytest.approx(1 - (squares.sum() / spread).item(), rel=1e-6),
    }
    assert made.score(found) == found[f"{part}_r2"]


def test_a_network_without_errors_scores_one_and_one_that_tells_the_mean_scores_zero(recipe):
    made = task(recipe(network="mynet:line"))
    line = made.player.model
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 3.0, 0.0, 0.0]]))
        line.bias.copy_(torch.tensor([7.0, -2.0]))
        assert made.evaluate()["test_r2"] == pytest.approx(1, abs=1e-12)
        line.weight.zero_()
        line.bias.copy_(made.data.test_labels.mean(0))
        assert made.evaluate()["test_r2"] == pytest.approx(0, abs=1e-12)


def test_a_step_descends_the_mean_squared_error(recipe):
    made = task(recipe(accumulate=2))
    x, y = made.data.train_inputs, made.data.train_labels
    expected = (made.player.model(x) - y).square().mean().item()
    losses = [made.step(lambda: torch.arange(len(x)), 1e-2) for _ in range(30)]
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("fields", [{}, {"network": "digits_resnet", "network_options": {"width": 4, "depth": 1}}])
def test_one_number_is_regressed_from_numbers_and_from_images(fields, recipe):
    made = task(recipe(data="mydata:images" if fields else "mydata:one_number", **fields))
    assert made.data.train_labels.shape == (64, 1)
    assert made.data.train_labels.dtype == torch.float32
    assert "test_r2" in made.evaluate()


def test_a_broken_run_goes_on_bit_for_bit_and_keeps_what_has_the_best_r2(recipe, tmp_path):
    everything = {"method": "sttp", "rank": 2, "steps": 8, "lr": 3e-2, "ema": 0.5, "validation": 0.2, "keep_best": True}
    wanted = recipe(**everything, clip=1.0, checkpoint_every=1, gauge_fix_every=2)
    whole = Trainer(wanted, tmp_path / "whole")
    whole.run()
    broken = Trainer(wanted, tmp_path / "broken")
    step = broken.task.step

    def interrupted(*given):
        if broken.progress.step == 5:
            raise KeyboardInterrupt
        return step(*given)

    broken.task.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = Trainer(wanted, tmp_path / "broken")
    assert resumed.progress.step == 5
    resumed.run()
    one, two = (load_checkpoint(checkpoints(tmp_path / name)[-1]) for name in ("whole", "broken"))
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())
    history = one.values["progress"]["history"]
    assert history == two.values["progress"]["history"]
    best = load_checkpoint(tmp_path / "broken" / BEST).values["progress"]["step"]
    assert best == max(history, key=lambda row: row["validation_r2"])["step"]


def test_outputs_that_are_not_finite_end_the_run_instead_of_scoring_it(recipe):
    made = task(recipe(network="mynet:line"))
    nn.init.constant_(made.player.model.weight, 3e38)
    with pytest.raises(DivergedError, match="the network's outputs are not finite: set lr lower"):
        made.evaluate()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "mydata:classes"}, "'regress' is for labels that are floats, and .* set task to 'classify'"),
        ({"task": "classify"}, "'classify' is for labels that are integers, and .* set task to 'regress'"),
        ({"data": "mydata:equal"}, r"the test labels of the data 'mydata:equal' are all equal, .* no R\^2: give data"),
        ({"mixup": 0.5}, "mixup is for task 'classify', and this is 'regress'"),
        ({"label_smoothing": 0.5}, "label_smoothing is for task 'classify'"),
        ({"teacher": "x"}, "teacher is for task 'classify'"),
        ({"method": "sn"}, "method 'sn' is a discriminator's"),
        ({"keep_best": True}, "must not choose by the test examples: set validation"),
    ],
)
def test_what_is_no_regression_is_refused_with_the_remedy(fields, message, recipe):
    with pytest.raises(RecipeError, match=message):
        task(recipe(**fields), Classification if fields.get("task") else Regression)


def test_a_regression_is_no_teacher_of_classes(recipe, tmp_path):
    Trainer(recipe(steps=1), tmp_path).run()
    taught = recipe(task="classify", data="mydata:classes", teacher=str(tmp_path))
    with pytest.raises(RecipeError, match=r"teacher .* is of task 'regress': name one of task 'classify'"):
        task(taught, Classification)


def test_a_gan_is_not_conditional_on_numbers(recipe, tiny_gan):
    recipe()
    with pytest.raises(RecipeError, match="have no classes to be conditional on: set conditional to false"):
        task(tiny_gan(data="mydata:images", conditional=True), Gan)
