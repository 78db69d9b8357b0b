"""The recipes of the paper's Figure 7 (Obukhov et al. 2021)."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab import recipes
from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.training.augment import Augmentation
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import build_network
from sttp_riemann.model.compression import compression

BASELINE = "figure7-cifar10-baseline"
FIGURE = "figure7-cifar10"
RANKS = {"sttp": [8, 16, 32, 64, 128, 256], "svdp": [4, 8, 16, 32, 64, 128]}
POINTS = [f"figure7-cifar10-{method}-rank{rank}" for method, ranks in RANKS.items() for rank in ranks]


def read(name: str, **changes) -> Recipe:
    return Recipe.from_dict(recipes.read(name)).changed(**changes)


def test_every_point_has_its_recipe():
    assert {name for name in recipes.names() if name.startswith("figure7")} == {BASELINE, FIGURE, *POINTS}


def test_the_whole_figure_has_every_point_on_both_paths():
    """A run of the figure is the run that the point's own recipe has."""
    found = {}
    for run in plan(read(FIGURE)):
        point = BASELINE if run.network.method == "dense" else f"{FIGURE}-{run.network.method}-rank{run.network.rank}"
        found.setdefault(point, []).append((run.network.frames, run.seed))
        if run.network.method != "dense":
            assert (
                run.what_matters()
                == read(point).for_run(run.network.method, run.network.frames, run.seed).what_matters()
            )
    assert found.pop(BASELINE) == [("riemannian", seed) for seed in (0, 1, 2)]
    assert set(found) == set(POINTS)
    for runs in found.values():
        assert set(runs) == {(path, seed) for path in ("riemannian", "householder") for seed in (0, 1, 2)}


@pytest.mark.parametrize("name", [BASELINE, FIGURE, *POINTS])
def test_the_protocol_is_the_papers(name):
    fields = read(name).flat()
    wanted = {"name": name, "task": "classify", "data": "cifar10", "network": "wide_resnet"}
    wanted |= {
        "network_options": {"depth": 28, "widen_factor": 10, "variant": "released"},
        "seeds": [0, 1, 2],
        "download": False,
    }
    wanted |= {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    wanted |= {"decay": "linear", "steps": 100_000, "batch_size": 128}
    assert {field: fields[field] for field in wanted} == wanted
    assert "as released" in fields["summary"]


@pytest.mark.parametrize("name", [BASELINE, FIGURE, *POINTS])
def test_images_are_padded_with_black_and_cropped_to_random_sizes_as_released(name):
    recipe = read(name)
    transforms = {"Pad": {"padding": 4, "fill": -1}, "RandomResizedCrop": {"size": 32}, "RandomHorizontalFlip": {}}
    assert recipe.data.augment == transforms
    assert [*recipe.data.augment] == [*transforms]
    white = torch.ones(3, 32, 32)
    found = torch.cat([Augmentation(recipe, 10, white)(white[None], torch.zeros(1))[0] for _ in range(50)])
    assert found.shape == (50, 3, 32, 32)
    # The padding of a white image is black, -1, and not grey
    assert found.min() == pytest.approx(-1)


def test_the_baseline_is_dense_and_of_the_papers_size():
    recipe = read(BASELINE)
    assert (recipe.network.method, recipe.study.methods) == ("dense", ["dense"])
    with torch.device("meta"):
        network = build_network(recipe, load_dataset("fake"), 10)
    tensors = [*network.parameters(), *network.buffers()]
    assert sum(tensor.numel() for tensor in tensors if tensor.is_floating_point()) == 36_507_242


@pytest.mark.parametrize("name", POINTS)
def test_a_point_is_held_as_its_name_says(name):
    fields = read(name).flat()
    _, _, method, rank = name.split("-")
    wanted = {"method": method, "methods": [method], "rank": int(rank.removeprefix("rank"))}
    wanted |= {"spectrum": "learned", "penalty": "d_optimal", "penalty_weight": 1.0, "init": "noisy_identity"}
    # As released; the paper's text leaves the first convolution dense
    wanted |= {"exclude": [], "paths": ["riemannian", "householder"]}
    assert {field: fields[field] for field in wanted} == wanted


@pytest.mark.parametrize("method", RANKS)
def test_compression_grows_with_rank(method):
    data = load_dataset("fake")
    narrow = {"network_options": {"depth": 28, "widen_factor": 1, "variant": "released"}}
    names = [name for name in POINTS if method in name]
    ratios = [compression(build_network(read(name, **narrow), data, 10)).ratio for name in names]
    assert ratios == sorted(ratios)
    assert ratios[0] < 40 < ratios[-1]


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("name", [BASELINE, *POINTS])
def test_a_recipe_trains_one_step_on_fake_data(name, frames, tmp_path):
    small = {
        "data": "fake",
        "network_options": {"depth": 10, "widen_factor": 1, "variant": "released"},
        "batch_size": 2,
        "steps": 1,
    }
    result = Trainer(read(name, **small, frames=frames, device="cpu", threads=1), tmp_path).run()
    assert [row["step"] for row in result["history"]] == [1]
    assert result["final"]["test_loss"] > 0
