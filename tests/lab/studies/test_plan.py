from __future__ import annotations

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.plan import plan, read_sweep
from sttp_riemann.lab.training.recipe import Recipe


def test_dense_runs_once_a_seed_and_the_others_on_every_path(tiny):
    runs = [(run.network.method, run.network.frames, run.seed) for run in plan(tiny(seeds=[3, 5]))]
    paths = ("riemannian", "householder")
    variants = [("dense", "riemannian"), *((method, path) for method in ("svdp", "sttp") for path in paths)]
    assert runs == [(*variant, seed) for seed in (3, 5) for variant in variants]


def test_every_low_rank_method_runs_at_every_rank_on_every_path(tiny):
    runs = plan(tiny(seeds=[0], ranks={"svdp": [1, 2], "sttp": [0.5]}))
    assert [(run.network.method, run.network.frames, run.network.rank) for run in runs[1:]] == [
        ("svdp", "riemannian", 1), ("svdp", "riemannian", 2), ("svdp", "householder", 1), ("svdp", "householder", 2),
        ("sttp", "riemannian", 0.5), ("sttp", "householder", 0.5),
    ]  # fmt: skip


def test_a_method_without_ranks_runs_at_the_recipes_own(tiny):
    runs = plan(tiny(seeds=[0], paths=["riemannian"], ranks={"sttp": [2]}))
    assert [(run.network.method, run.network.rank) for run in runs[1:]] == [("svdp", 4), ("sttp", 2)]


def test_swept_fields_are_combined(tiny):
    runs = plan(tiny(seeds=[0], methods=["sttp"], paths=["riemannian"]), {"lr": [0.1, "2e-1"], "clip": [None, 1]})
    assert [(run.optimizer.lr, run.optimizer.clip) for run in runs] == [(0.1, None), (0.1, 1), (0.2, None), (0.2, 1)]


def test_what_is_nothing_to_dense_weights_is_not_swept_over_them(tiny):
    runs = plan(tiny(seeds=[0], methods=["dense", "sttp"], paths=["riemannian"]), {"init": ["identity", "orthogonal"]})
    assert [run.network.method for run in runs] == ["dense", "sttp", "sttp"]


GENERATORS = {
    "task": "gan", "data": "fake", "method": "svdp", "rank": 4, "player": "generator", "methods": ["svdp", "sttp"],
    "ranks": {"svdp": [2], "sttp": [2, 3]}, "seeds": [0],
}  # fmt: skip


def test_where_generators_are_compared_the_discriminator_stays_and_the_paths_are_of_both():
    recipe = Recipe().changed(**GENERATORS, spectra=["L", "R"])
    runs = plan(recipe)
    assert {(run.network.method, run.network.rank, run.network.penalty) for run in runs} == {("svdp", 4, "none")}
    found = [run.of_generator().network for run in runs]
    assert all(run.network.frames == own.frames for run, own in zip(runs, found, strict=True))
    variants = [(own.method, own.penalty, own.frames, own.rank) for own in found]
    paths, letters = ("riemannian", "householder"), ("none", "d_optimal")
    wanted = [
        (m, letter, p, r) for m, of in recipe.study.ranks.items() for letter in letters for p in paths for r in of
    ]
    assert variants == wanted


@pytest.mark.parametrize("method", ["dense", "sn", "sr"])
def test_a_comparison_of_generators_takes_methods_that_have_frames(method):
    with pytest.raises(RecipeError, match=f"methods of player 'generator' are svdp and sttp, not '{method}'"):
        Recipe().changed(**{**GENERATORS, "methods": [method]})


def test_a_variant_may_have_fields_of_its_own(tiny):
    runs = plan(tiny(seeds=[0], ranks={"sttp": [2, 3]}, methods=["sttp"], variants={"STTP-L r=3": {"lr": 0.5}}))
    assert [(run.network.rank, run.optimizer.lr) for run in runs] == [(2, 0.01), (3, 0.5), (2, 0.01), (3, 0.5)]


def test_a_study_may_leave_out_a_rank_or_a_method_that_has_fields_of_its_own(tiny):
    fields = {"STTP-L r=3": {"lr": 0.5}, "SVDP-R r=9": {"lr": 0.1}}
    assert len(plan(tiny(seeds=[0], methods=["sttp"], ranks={"sttp": [2]}, variants=fields))) == 2


def test_a_sweep_overrides_what_a_variant_has_of_its_own(tiny):
    recipe = tiny(seeds=[0], methods=["sttp"], paths=["riemannian"], variants={"STTP-L": {"lr": 0.5, "clip": 2.0}})
    assert [(run.optimizer.lr, run.optimizer.clip) for run in plan(recipe, {"lr": [0.1]})] == [(0.1, 2.0)]


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ({"STTP r=9": {"lr": 0.1}}, "no run of the study is 'STTP r=9'; there are dense, SVDP-L r=4, SVDP-L, STTP-L"),
        ({"dense": {"lrr": 0.1}}, "unknown recipe field 'lrr', did you mean lr"),
        ({"dense": {"lr": -1}}, "lr must be"),
        ({"dense": {"seed": 1}}, "'dense' cannot have seed of its own: the study says it of all"),
        ({"dense": {"methods": ["sttp"]}}, "'dense' cannot have methods of its own"),
        ({"x" * 1000: {"lr": 1}}, "no run of the study is 'xxx"),
        ({"dense": 3}, "variants must be"),
    ],
)
def test_fields_of_a_variant_that_cannot_be_are_refused_by_name(tiny, variants, told):
    with pytest.raises(RecipeError, match=told) as error:
        plan(tiny(seeds=[0], variants=variants))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"frames": ["riemannian"]}, "sweep takes no frames: say which with --paths"),
        ({"output": ["a", "b"]}, "sweep takes no output: it changes nothing of a run"),
        ({"lr": []}, "sweep has no value of lr"),
        ({"lrr": [1]}, "unknown recipe field 'lrr', did you mean lr"),
        ({"lr": ["fast"]}, "lr must be"),
        ({"steps": range(1, 10**5)}, "at most|may have 100,000 runs"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_by_name(tiny, sweep, told):
    with pytest.raises(RecipeError, match=told):
        plan(tiny(), sweep)


def test_a_sweep_is_read_from_text():
    assert read_sweep(["lr=1e-3,0.01", "clip=null,1", "augment={}"]) == {
        "lr": ["1e-3", 0.01], "clip": [None, 1], "augment": [{}]
    }  # fmt: skip


@pytest.mark.parametrize("text", [["lr"], ["=1"], ["lr=1", "lr=2"], ["lr=[" * 2000], ["lr=&a 1,*b"], ["a b=1"]])
def test_a_text_that_is_no_sweep_is_refused(text):
    with pytest.raises(RecipeError, match="--sweep"):
        read_sweep(text)
