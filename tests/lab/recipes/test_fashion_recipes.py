"""The studies of Fashion-MNIST."""

from __future__ import annotations

import sttp_riemann as sr
from sttp_riemann.lab import recipes
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import represent


def read(name):
    return Recipe.from_dict(recipes.read(name))


def test_compression_is_compared_at_six_ranks_on_both_paths_in_six_seeds():
    ranks = {}
    for run in plan(read("fashion-compression")):
        ranks.setdefault((run.network.method, run.network.frames, run.seed), set()).add(run.network.rank)
    low_rank = {key: found for key, found in ranks.items() if key[0] != "dense"}
    assert len(low_rank) == 2 * 2 * 6
    assert {len(found) for found in low_rank.values()} == {6}


def test_rates_are_chosen_by_6000_images_and_never_by_those_of_the_test():
    assert {read(name).evaluation.validation for name in recipes.names() if name.startswith("fashion")} == {0.1}


def test_the_flagship_has_fewer_than_50000_degrees_of_freedom():
    recipe = read("fashion-flagship")
    model = represent(build_model(recipe.network.name, 10, 1, **recipe.network.options), recipe)
    # Running statistics of batch norm are counted by Z, but they are no degrees of freedom
    sizes, statistics = sr.compression(model), sum(b.numel() for b in model.buffers() if b.is_floating_point())
    free = sizes.dof + sizes.other - statistics
    assert free < 50_000
    assert f"{free:,} degrees of freedom" in recipe.summary
