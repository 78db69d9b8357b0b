"""The recipes of the paper's Figure 7 (Obukhov et al. 2021)."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab import recipes
from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import build_network
from sttp_riemann.model.compression import compression

BASELINE = "figure7-cifar10-baseline"
FIGURE = "figure7-cifar10"
RANKS = {"sttp": [8, 16, 32, 64, 128, 256], "svdp": [4, 8, 16, 32, 64, 128]}
POINTS = [f"figure7-cifar10-{method}-rank{rank}" for method, ranks in RANKS.items() for rank in ranks]


def read(name: str, **changes) -> Recipe:
    return Recipe.from_dict({**recipes.read(name), **changes})


def test_every_point_has_its_recipe():
    assert {name for name in recipes.names() if name.startswith("figure7")} == {BASELINE, FIGURE, *POINTS}


def test_the_whole_figure_has_every_point_on_both_paths():
    """A run of the figure is the run that the point's own recipe has."""
    found = {}
    for run in plan(read(FIGURE)):
        point = BASELINE if run.method == "dense" else f"{FIGURE}-{run.method}-rank{run.rank}"
        found.setdefault(point, []).append((run.frames, run.seed))
        if run.method != "dense":
            assert run.what_matters() == read(point).for_run(run.method, run.frames, run.seed).what_matters()
    assert found.pop(BASELINE) == [("riemannian", seed) for seed in (0, 1, 2)]
    assert set(found) == set(POINTS)
    for runs in found.values():
        assert set(runs) == {(path, seed) for path in ("riemannian", "householder") for seed in (0, 1, 2)}


@pytest.mark.parametrize("name", [BASELINE, FIGURE, *POINTS])
def test_the_protocol_is_the_papers(name):
    recipe = read(name)
    assert recipe.name == name
    assert (recipe.task, recipe.data, recipe.network) == ("classify", "cifar10", "wide_resnet")
    assert recipe.network_options == {"depth": 28, "widen_factor": 10}
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 1e-4)
    assert (recipe.decay, recipe.steps, recipe.batch_size) == ("linear", 100_000, 128)
    assert (recipe.seeds, recipe.download) == ([0, 1, 2], False)


def test_the_baseline_is_dense_and_of_the_papers_size():
    recipe = read(BASELINE)
    assert (recipe.method, recipe.methods) == ("dense", ["dense"])
    with torch.device("meta"):
        network = build_network(recipe, load_dataset("fake"), 10)
    tensors = [*network.parameters(), *network.buffers()]
    assert sum(tensor.numel() for tensor in tensors if tensor.is_floating_point()) == 36_507_242


@pytest.mark.parametrize("name", POINTS)
def test_a_point_is_held_as_its_name_says(name):
    recipe = read(name)
    _, _, method, rank = name.split("-")
    assert (recipe.method, recipe.methods, f"rank{recipe.rank}") == (method, [method], rank)
    assert (recipe.spectrum, recipe.penalty, recipe.penalty_weight) == ("learned", "d_optimal", 1.0)
    assert (recipe.init, recipe.exclude) == ("noisy_identity", ["conv1"])
    assert recipe.paths == ["riemannian", "householder"]


@pytest.mark.parametrize("method", RANKS)
def test_compression_grows_with_rank(method):
    data = load_dataset("fake")
    narrow = {"network_options": {"depth": 28, "widen_factor": 1}}
    names = [name for name in POINTS if method in name]
    ratios = [compression(build_network(read(name, **narrow), data, 10)).ratio for name in names]
    assert ratios == sorted(ratios)
    assert ratios[0] < 40 < ratios[-1]


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("name", [BASELINE, *POINTS])
def test_a_recipe_trains_one_step_on_fake_data(name, frames, tmp_path):
    small = {"data": "fake", "network_options": {"depth": 10, "widen_factor": 1}, "batch_size": 2, "steps": 1}
    result = Trainer(read(name, **small, frames=frames, device="cpu", threads=1), tmp_path).run()
    assert [row["step"] for row in result["history"]] == [1]
    assert result["final"]["test_loss"] > 0
