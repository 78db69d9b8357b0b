"""A study of stacked digits: modes and errors have columns, losses with and without penalties one report."""

from __future__ import annotations

import pytest

from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.compare import compare
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.training.recipe import Recipe

R3GAN = {"gan_loss": "relativistic", "gradient_penalty": {"r1": 1.0, "r2": 1.0}}


def recipe(**changes) -> Recipe:
    return Recipe.from_dict(recipes.read("gan-stacked")).changed(device="cpu", **changes)


@pytest.fixture(scope="module")
def table(tmp_path_factory, digits_cache):
    tiny = {
        "data": "stacked_digits:1000", "network_options": {"width": 4},
        "generator_options": {"width": 4, "latent_dim": 4},
        "methods": ["dense"], "seeds": [0], "steps": 2, "evaluate_every": 2, "batch_size": 8, "metric_samples": 40,
        "metrics": ["kid", "modes"], "kid_subset_size": 20, "kid_subsets": 3, "gan_loss": "relativistic",
    }  # fmt: skip
    sweep = {"gradient_penalty": [{}, R3GAN["gradient_penalty"]]}
    return compare(recipe(**tiny), tmp_path_factory.mktemp("study"), sweep=sweep).table


def test_the_table_has_modes_their_divergence_and_the_error_of_kid(table):
    assert table.modes.between(1, 40).all()
    assert (table.modes_kl > 3).all()
    assert (table.kid_error > 0).all()


def test_a_penalty_is_a_variant_beside_none(table):
    assert len(table) == table.variant.nunique() == 2
    assert set(table.gradient_penalty) == {"{}", '{"r1": 1.0, "r2": 1.0}'}


def test_the_recipe_compares_all_methods_on_both_paths_with_either_loss():
    plain, penalized = plan(recipe()), plan(recipe(**R3GAN))
    for runs in (plain, penalized):
        assert len(runs) == 6 * 6
        assert {run.network.method for run in runs} == {"dense", "sn", "svdp", "sttp"}
    assert all(run.gan.gradient_penalty == {"r1": 1.0, "r2": 1.0} for run in penalized)
