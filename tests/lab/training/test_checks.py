from __future__ import annotations

from typing import get_type_hints

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.checks import AT_LEAST_ONE, FRACTIONS, NOT_NEGATIVE
from sttp_riemann.lab.training.recipe import Recipe


@pytest.mark.parametrize("name", [*AT_LEAST_ONE, "image_size", "channels", "threads"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(RecipeError, match=f"^{name} must be at least 1, not 0$"):
        Recipe.from_dict({name: 0})


@pytest.mark.parametrize("name", NOT_NEGATIVE)
def test_negative_numbers_are_refused(name):
    with pytest.raises(RecipeError, match=f"^{name} must not be negative, not -1"):
        Recipe.from_dict({name: -1})


@pytest.mark.parametrize("name", FRACTIONS)
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_fractions_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(RecipeError, match=rf"^{name} must be in \[0, 1\), not "):
        Recipe.from_dict({name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": -1}, "rank must be at least 1, not -1"),
        ({"rank": 2.5}, "rank must be at least 1, not 2.5; a fraction of the full rank is above 0 and at most 1.0"),
        ({"rank": {"conv*": 0}}, "rank must be at least 1, not 0"),
        ({"rank": {"conv*": "all"}}, "rank must be at least 1, not 'all'"),
        ({"ranks": {"dense": [2]}}, "ranks are of svdp and sttp, not of 'dense'"),
        ({"ranks": {"sttp": 8}}, "ranks of 'sttp' must be a list that is not empty, such as [4, 8, 16], not 8"),
        ({"ranks": {"sttp": []}}, "ranks of 'sttp' must be a list that is not empty"),
        ({"ranks": {"sttp": [8, 0]}}, "each of the ranks of 'sttp' must be at least 1, not 0"),
        ({"ranks": {"sttp": [{"conv": 8}]}}, "each of the ranks of 'sttp' must be at least 1, not {'conv': 8}"),
        ({"ranks": {"svdp": [4, 8, 4]}}, "ranks of 'svdp' name the same one twice: [4, 8, 4]"),
        ({"ranks": {"sttp": [4]}, "budget": 0.1}, "ranks and budget both say the rank: leave one of them out"),
        ({"budget": 0}, "budget must be above 0 and at most 1, not 0.0"),
        ({"task": "gan", "budget": 0.5, "generator_rank": 3}, "leave one of them out"),
        ({"lr": 0}, "lr must be positive, not 0.0"),
        ({"clip": 0}, "clip must be positive, not 0.0"),
        ({"betas": [0.9]}, "betas must be two numbers"),
        ({"betas": [0.9, 1]}, "betas must be two numbers"),
        ({"milestones": [0.6, 0.3]}, "milestones must be ascending"),
        ({"milestones": [30, 60]}, "milestones must be ascending fractions"),
        ({"methods": []}, "methods must not be empty"),
        ({"seeds": [1, 1]}, "seeds names the same one twice"),
        ({"seeds": [-1]}, "a seed must be between 0 and "),
        ({"seed": 2**64}, "a seed must be between 0 and "),
        ({"penalty": "d_optimal", "spectrum": "identity"}, "set spectrum to 'learned'"),
        ({"nesterov": True}, "nesterov needs optimizer 'sgd'"),
        ({"precision": "fp16", "device": "cpu"}, "precision 'fp16' needs an accelerator"),
        ({"batch_size": 10, "accumulate": 3}, "batch_size 10 cannot be computed in 3 equal parts"),
        ({"augment": {"RandomCrop": 4}}, "augment needs a mapping of options for 'RandomCrop'"),
        ({"rank": 2**31}, "rank must be at most 2147483647, not 2147483648"),
        ({"mixup": 1e-300}, "mixup must be at least 0.001, not 1e-300"),
        ({"name": ""}, "name is that of a folder under runs/, and '' cannot be"),
        ({"name": "../x"}, "'../x' cannot be"),
        ({"name": ".."}, "'..' cannot be"),
        ({"name": "é" * 101}, "name must have at most 200 bytes, not 202"),
        ({"output": "a/" + "x" * 256}, "output has a part of 256 bytes: 255 are the most"),
        ({"teacher": "a\0"}, "teacher must not hold a zero byte"),
        (
            {"task": "gan", "metric_samples": 3, "metrics": ["prc"]},
            "metric_samples must be at least 4 for 'prc', not 3",
        ),
        (
            {"task": "gan", "metric_samples": 1, "metrics": ["fid"]},
            "metric_samples must be at least 2 for 'fid', not 1",
        ),
        ({"task": "gan", "metric_samples": 9, "metrics": ["is"]}, "is_splits 10 is more than metric_samples 9"),
        ({"task": "gan", "kid_subset_size": 1}, "kid_subset_size must be at least 2, not 1"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_the_remedy(fields, message):
    with pytest.raises(RecipeError) as error:
        Recipe.from_dict(fields)
    assert message in str(error.value)


HINTS = get_type_hints(Recipe)


@pytest.mark.parametrize("name", [name for name, hint in HINTS.items() if hint in (int, int | None) and name != "seed"])
@pytest.mark.parametrize("value", [2**31, 2**64, pytest.param(10**5000, id="huge"), -1])
def test_every_whole_number_has_a_bound_far_below_what_overflows(name, value):
    with pytest.raises(RecipeError, match=f"^{name} must ") as error:
        Recipe.from_dict({name: value})
    assert len(str(error.value)) < 100


@pytest.mark.parametrize("name", [name for name, hint in HINTS.items() if hint in (float, float | None)])
@pytest.mark.parametrize(
    "value", [1e300, "1e300", float("nan"), float("inf"), pytest.param(10**5000, id="huge"), -1e-300]
)
def test_every_number_has_a_bound_that_float32_can_hold(name, value):
    with pytest.raises(RecipeError, match=f"^{name} must (be|not be) "):
        Recipe.from_dict({name: value})
