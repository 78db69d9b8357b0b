from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.variant import (
    Variant,
    as_columns,
    bearing,
    differing,
    folder_name,
    swept_fields,
)
from sttp_riemann.lab.training.recipe import Recipe


def test_a_variant_is_read_off_a_recipe():
    recipe = Recipe().changed(
        method="sttp", frames="householder", rank=8, lr=0.1, init="orthogonal", seed=3, penalty="d_optimal"
    )
    assert Variant.of(recipe) == Variant("sttp", "householder", "R", "8", "adam", 0.1, "orthogonal", 3)


def test_a_dense_network_has_no_path_spectrum_rank_or_start():
    found = Variant.of(Recipe().changed(method="dense", rank=8, init="identity"))
    assert (found.path, found.spectrum, found.rank, found.start) == ("", "", "", "")


@pytest.mark.parametrize(
    ("fields", "rank"), [({"rank": 0.25}, "0.25"), ({"budget": 0.1}, "budget 0.1"), ({"rank": {"*": 3}}, '{"*": 3}')]
)
def test_ranks_of_every_kind_have_a_name_of_their_own(fields, rank):
    assert Variant.of(Recipe().changed(method="sttp", **fields)).rank == rank


def test_a_title_tells_what_it_is_asked_to():
    variant = Variant("sttp", "riemannian", "R", "8", "adam", 0.1, "orthogonal", 0, (("clip", "1.0"),))
    assert variant.title(()) == "STTP riemannian clip=1.0"
    assert variant.title({"rank", "spectrum"}) == "STTP-R riemannian r=8 clip=1.0"
    assert variant.title({"optimizer", "rate", "start"}) == "STTP riemannian adam lr=0.1 orthogonal clip=1.0"
    assert variant.paper_names == ("STTP-R r=8", "STTP-R")
    assert Variant("dense").title({"rank"}) == "dense"


def test_only_what_differs_within_a_method_must_be_told():
    ranks = [Variant("svdp", rank="4"), Variant("sttp", rank="8")]
    assert differing(ranks) == set()
    assert differing([*ranks, Variant("sttp", rank="4", start="identity")]) == {"rank", "start"}


def test_fields_without_a_name_that_differ_are_swept():
    runs = [Recipe().changed(clip=None), Recipe().changed(clip=1.0, seed=3), Recipe().changed(clip=1.0, rank=3, lr=0.1)]
    assert swept_fields(runs) == ["clip"]
    assert Variant.of(runs[1], ["clip"]).swept == (("clip", "1.0"),)


GENERATORS = {"task": "gan", "data": "fake", "method": "svdp", "player": "generator", "methods": ["sttp"]}


def test_where_generators_are_compared_a_variant_is_the_generators():
    recipe = Recipe().changed(**GENERATORS, penalty="d_optimal", generator_method="sttp", generator_rank=8)
    variant = Variant.of(recipe)
    assert (variant.method, variant.path, variant.spectrum, variant.rank) == ("sttp", "riemannian", "R", "8")
    assert variant.title({"rank", "spectrum"}) == "G STTP-R riemannian r=8"
    assert variant.paper_names == ("G STTP-R r=8", "G STTP-R")
    assert recipe.label == "generator-sttp-r-riemannian"


def test_where_generators_are_compared_what_differs_between_discriminators_is_told():
    """What the generator follows is told as its own, and nothing that tells two runs apart is lost."""
    first = Recipe().changed(**GENERATORS, generator_method="sttp", generator_rank=8, generator_frames="follow")
    others = [{"rank": 3}, {"method": "dense"}, {"generator_rank": 9}, {"frames": "householder"}, {"seed": 5}]
    runs = [first, *(first.changed(**change) for change in others)]
    assert swept_fields(runs) == ["method", "rank"]
    assert swept_fields([first, first.changed(generator_rank=9, frames="householder", seed=5)]) == []
    apart = [first.changed(generator_frames="householder"), first.changed(frames="householder")]
    assert "frames" in swept_fields([*apart, first.changed(frames="householder", generator_frames="householder")])


def test_what_is_nothing_to_a_dense_network_does_not_tell_its_runs_apart():
    ours, other = (
        Recipe().changed(method="dense", init=init, exclude=layers)
        for init, layers in [("identity", []), ("dense", ["a"])]
    )
    assert bearing(ours) == bearing(other)
    assert swept_fields([ours, other]) == []


def test_a_folders_name_tells_runs_of_all_fields_apart_but_not_seeds():
    recipe = Recipe().changed(method="sttp", rank=8)
    assert folder_name(recipe).startswith("sttp-riemannian-r8-lr0.001-")
    assert folder_name(recipe) == folder_name(recipe.changed(seed=5, name="other", seeds=[5]))
    others = [{"rank": 9}, {"steps": 9}, {"init": "identity"}, {"lr": 0.5}, {"rank": {"*/../..": 3}}]
    names = {folder_name(recipe.changed(**changes)) for changes in [{}, *others]}
    assert len(names) == 6
    assert all("/" not in name for name in names)


def test_columns_are_plain_values_and_no_mathematics_of_a_figure():
    columns = as_columns(Variant("sttp", swept=(("teacher", '"a$b$"'),)))
    assert columns["teacher"] == "a＄b＄"
    assert "swept" not in columns


@pytest.mark.parametrize(("field", "frames"), [("moment", "householder"), ("pivots", "riemannian")])
def test_a_field_of_the_other_path_makes_no_other_run(field, frames):
    values = {"moment": ["matrix", "cores"], "pivots": [True, False]}[field]
    runs = [Recipe().changed(method="sttp", frames=frames, **{field: value}) for value in values]
    assert bearing(runs[0]) == bearing(runs[1])
    assert field in bearing(runs[0].changed(frames={"householder": "riemannian"}.get(frames, "householder")))


def test_a_gan_whose_networks_are_on_both_paths_has_the_fields_of_both():
    run = Recipe().changed(task="gan", method="sttp", frames="householder", generator_method="sttp", data="fake")
    assert "moment" not in bearing(run)
    assert {"moment", "pivots"} <= set(bearing(run.changed(generator_frames="riemannian")))
