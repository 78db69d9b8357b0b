from __future__ import annotations

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.plan import plan, read_sweep


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
