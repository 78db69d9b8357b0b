from __future__ import annotations

import json

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.recipe import FIELDS, Recipe, flatten, nest


def test_every_field_has_a_default_and_a_help_text():
    assert Recipe() == Recipe.from_dict({})
    assert all(field.metadata["help"] for field in FIELDS.values())


def test_a_recipe_survives_json():
    recipe = Recipe().changed(augment={"RandomHorizontalFlip": {}}, clip=1.0, exclude=["conv1"], rank={"conv1": 1.0})
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_short_names_and_sections_are_two_ways_to_write_one_recipe():
    short = {"lr": 0.5, "data": "fake", "generator_rank": 3, "seed": 4}
    nested = {"optimizer": {"lr": 0.5}, "data": {"name": "fake"}, "generator": {"rank": 3}, "seed": 4}
    assert nest(short) == nested
    assert flatten(nested) == short


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": {"weightdecay": 1}}, "section optimizer has no field 'weightdecay', did you mean weight_decay"),
        ({"optimiser": {"lr": 1}}, "unknown recipe field 'optimiser', did you mean optimizer"),
        ({"lr": 1}, "a recipe has 'lr' elsewhere, as optimizer: {lr: ...}"),
        ({"data": "digits"}, "data is a section, as data: {name: ...}, not 'digits'"),
        ({"optimizer": {"generator_rank": 1}}, "a recipe has 'generator_rank' elsewhere, as generator: {rank: ...}"),
        ({"machine": {"seed": 1}}, "a recipe has 'seed' elsewhere, as seed: ..."),
        ({"network": {1: 1}}, "section network has no field 1;"),
    ],
)
def test_an_unknown_field_is_refused_by_name(fields, message):
    with pytest.raises(RecipeError) as error:
        Recipe.from_dict(fields)
    assert message in str(error.value)


def test_recipes_do_not_share_their_lists():
    assert Recipe().study.seeds is not Recipe().study.seeds


def test_what_matters_leaves_out_where_a_run_is_written_and_how_often():
    elsewhere = Recipe().changed(output="elsewhere", checkpoint_every=7, keep=3, seeds=[5])
    assert elsewhere.what_matters() == Recipe().what_matters()
    assert Recipe().changed(lr=0.5).what_matters() != Recipe().what_matters()


def test_a_generator_follows_the_network_in_what_is_not_said_of_it():
    recipe = Recipe().changed(task="gan", rank=7, spectrum="identity", generator_method="follow", exclude=["conv1"])
    found = recipe.of_generator().network
    assert (found.method, found.rank, found.spectrum, found.exclude) == ("sttp", 7, "identity", [])
    assert recipe.changed(method="sn").of_generator().network.method == "dense"


@pytest.mark.parametrize(("method", "label"), [("dense", "dense"), ("sttp", "sttp-householder")])
def test_a_label_names_method_and_frames_as_far_as_there_are_any(method, label):
    assert Recipe().for_run(method, "householder", 3).label == label


def test_a_label_tells_the_rank_where_several_are_compared():
    recipe = Recipe().changed(ranks={"sttp": [4, 8]})
    assert recipe.for_run("sttp", "riemannian", 0, rank=8).label == "sttp-riemannian-rank8"
    assert recipe.for_run("svdp", "riemannian", 0).label == "svdp-riemannian"
    assert recipe.for_run("dense", "riemannian", 0).label == "dense"


@pytest.mark.parametrize(
    ("methods", "unused"),
    [(["dense", "sttp"], True), (["sttp", "svdp"], False), (["dense"], False)],
)
def test_the_rank_is_unused_where_ranks_say_all(methods, unused):
    assert Recipe().changed(methods=methods, ranks={"sttp": [4]}).study.rank_unused is unused


@pytest.mark.parametrize(
    ("method", "frames", "riemannian"),
    [("dense", "riemannian", False), ("sttp", "riemannian", True), ("svdp", "householder", False)],
)
def test_only_low_rank_methods_have_points_on_a_manifold(method, frames, riemannian):
    assert Recipe().changed(method=method, frames=frames).network.riemannian is riemannian
