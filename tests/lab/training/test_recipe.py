from __future__ import annotations

import dataclasses
import json

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.recipe import Recipe


def test_every_field_has_a_default_and_a_help_text():
    assert Recipe() == Recipe.from_dict({})
    assert all(field.metadata["help"] for field in dataclasses.fields(Recipe))


def test_a_recipe_survives_json():
    recipe = Recipe(augment={"RandomHorizontalFlip": {}}, clip=1.0, exclude=["conv1"])
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(RecipeError, match="unknown recipe field 'weightdecay', did you mean weight_decay"):
        Recipe.from_dict({"weightdecay": 1})


def test_recipes_do_not_share_their_lists():
    assert Recipe().seeds is not Recipe().seeds


def test_what_matters_leaves_out_where_a_run_is_written_and_how_often():
    elsewhere = Recipe(output="elsewhere", checkpoint_every=7, keep=3, seeds=[5])
    assert elsewhere.what_matters() == Recipe().what_matters()
    assert Recipe(lr=0.5).what_matters() != Recipe().what_matters()


@pytest.mark.parametrize(("method", "label"), [("dense", "dense"), ("sttp", "sttp-householder")])
def test_a_label_names_method_and_frames_as_far_as_there_are_any(method, label):
    assert Recipe().for_run(method, "householder", 3).label == label


def test_a_label_tells_the_rank_where_several_are_compared():
    recipe = Recipe(ranks={"sttp": [4, 8]})
    assert recipe.for_run("sttp", "riemannian", 0, rank=8).label == "sttp-riemannian-rank8"
    assert recipe.for_run("svdp", "riemannian", 0).label == "svdp-riemannian"
    assert recipe.for_run("dense", "riemannian", 0).label == "dense"


@pytest.mark.parametrize(
    ("methods", "unused"),
    [(["dense", "sttp"], True), (["sttp", "svdp"], False), (["dense"], False)],
)
def test_the_rank_is_unused_where_ranks_say_all(methods, unused):
    assert Recipe(methods=methods, ranks={"sttp": [4]}).rank_unused is unused


@pytest.mark.parametrize(
    ("method", "frames", "riemannian"),
    [("dense", "riemannian", False), ("sttp", "riemannian", True), ("svdp", "householder", False)],
)
def test_only_low_rank_methods_have_points_on_a_manifold(method, frames, riemannian):
    assert Recipe(method=method, frames=frames).riemannian is riemannian
