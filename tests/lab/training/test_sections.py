from __future__ import annotations

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.metrics import fidelity
from sttp_riemann.lab.training.recipe import FIELDS, Recipe
from sttp_riemann.lab.training.sections import FEWEST_SAMPLES


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ranks": {"dense": [2]}}, "ranks are of svdp and sttp, not of 'dense'"),
        ({"ranks": {"sttp": []}}, "ranks of 'sttp' must be a list that is not empty"),
        ({"ranks": {"svdp": [4, 8, 4]}}, "ranks of 'svdp' names the same one twice: [4, 8, 4]"),
        ({"ranks": {"sttp": [4]}, "budget": 0.1}, "ranks and budget both say the rank: leave one of them out"),
        ({"task": "gan", "budget": 0.5, "generator_rank": 3}, "leave one of them out"),
        ({"betas": [0.9]}, "betas must be two numbers"),
        ({"milestones": [0.6, 0.3]}, "milestones must be ascending"),
        ({"methods": []}, "methods must not be empty"),
        ({"seeds": [1, 1]}, "seeds names the same one twice"),
        ({"penalty": "d_optimal", "spectrum": "identity"}, "set spectrum to 'learned'"),
        (
            {
                "task": "gan",
                "generator_method": "sttp",
                "generator_spectrum": "identity",
                "generator_penalty": "d_optimal",
            },
            "set generator_spectrum to 'learned'",
        ),
        ({"task": "gan", "generator_method": "sn"}, "generator_method 'sn' is a discriminator's: set it to 'dense'"),
        ({"weights": "x.pth"}, "init 'orthogonal' draws other weights than those of weights: set init to 'dense'"),
        (
            {"task": "gan", "method": "sn", "generator_method": "svdp", "generator_weights": "x.pth"},
            "set generator_init to 'dense'",
        ),
        ({"nesterov": True}, "nesterov needs optimizer 'sgd'"),
        ({"optimizer": "sgd", "moment": "polar"}, "moment needs optimizer 'adam'"),
        ({"optimizer": "sgd", "decoupled_weight_decay": True}, "decoupled_weight_decay needs optimizer 'adam'"),
        ({"max_angle": 1.6}, "max_angle must be a number above 0 and below pi / 2"),
        ({"moment": "entries"}, "moment must be one of matrix, polar, cores"),
        ({"precision": "fp16", "device": "cpu"}, "precision 'fp16' needs an accelerator"),
        ({"batch_size": 10, "accumulate": 3}, "batch_size 10 cannot be computed in 3 equal parts"),
        ({"method": "sn"}, "method 'sn' is a discriminator's: set task to 'gan'"),
        ({"methods": ["sr"]}, "method 'sr' is a discriminator's: set task to 'gan'"),
        (
            {"task": "gan", "metric_samples": 3, "metrics": ["prc"]},
            "metric_samples must be at least 4 for 'prc', not 3",
        ),
        (
            {"task": "gan", "metric_samples": 1, "metrics": ["fid"]},
            "metric_samples must be at least 2 for 'fid', not 1",
        ),
        ({"task": "gan", "metric_samples": 9, "metrics": ["is"]}, "is_splits 10 is more than metric_samples 9"),
        (
            {"task": "gan", "metrics": ["modes"], "extractor": "digits"},
            "metric 'modes' needs extractor 'stacked_digits', not 'digits': set it, or leave modes out",
        ),
        (
            {"task": "gan", "data": "cifar10", "extractor": "stacked_digits"},
            "extractor 'stacked_digits' is for data 'stacked_digits', not 'cifar10': choose another extractor",
        ),
        ({"task": "gan", "kid_subset_size": 1}, "kid_subset_size must be at least 2, not 1"),
    ],
)
def test_fields_that_contradict_each_other_are_refused_with_the_remedy(fields, message):
    with pytest.raises(RecipeError) as error:
        Recipe().changed(**fields)
    assert message in str(error.value)


OTHERS = {
    "augment": {"Resize": {}},
    "teacher": "runs/x",
    "metrics": [],
    "spectra": ["C"],
    "generator_exclude": ["linear"],
    "generator_bound_of": "operator",
    "extractor": "digits",
    "gan_loss": "wasserstein",
    "conditional": True,
    "gradient_penalty": {"r1": 1.0},
    "operator_norms": True,
    "generator_options": {"width": 8},
    "extractor_weights": "x",
    "player": "generator",
}


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.scope & {"gan", "classify"}])
def test_a_field_of_another_task_is_refused(name):
    field = FIELDS[name]
    other = "gan" if "classify" in field.scope else "classify"
    numbers = (2, 0.25, "svdp", "householder", "identity", "dense", "prime", "never", "d_optimal", "x", False)
    value = next(v for v in (OTHERS.get(name), *numbers) if v not in (None, field.default) and _takes(field, v))
    with pytest.raises(RecipeError, match=f"^{name} is for task "):
        Recipe().changed(task=other, **{name: value})


def _takes(field, value) -> bool:
    try:
        field.check(value)
    except RecipeError:
        return False
    return True


def test_a_recipe_asks_for_as_many_samples_as_the_metrics_do():
    # Recipes are read without torch-fidelity, so the numbers stand in both places
    assert {metric: fewest for metric, (fewest, _) in fidelity._FEWEST.items()} == FEWEST_SAMPLES
