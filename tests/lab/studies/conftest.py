from __future__ import annotations

from typing import Any

import pytest

from sttp_riemann.lab.studies.results import Result
from sttp_riemann.lab.training.recipe import Recipe


def result(
    method: str, frames: str = "riemannian", seed: int = 0, recipe: Recipe | None = None, **changes: Any
) -> Result:
    """A finished run that nobody ran."""
    recipe = (recipe or Recipe()).for_run(method, frames, seed)
    dense = method == "dense"
    history = [
        {"step": step, "train_loss": 1 / step, "test_loss": 2 / step, "test_accuracy": 0.9 + 0.001 * step + 0.01 * seed}
        for step in (10, 20)
    ]
    if not dense:
        history = [{**row, "orthogonality_error": 1e-6 * row["step"]} for row in history]
    return {
        "label": recipe.label,
        "recipe": recipe.to_dict(),
        "environment": {"torch": "2", "threads": 1},
        "final": history[-1],
        "median_step_ms": 10.0 if dense else 12.0,
        "largest_orthogonality_error": 0.0 if dense else 2e-5,
        "dof": 1000 if dense else 100,
        "stored": 1000 if dense else 110,
        "dense": 1000,
        "ratio": 100.0 if dense else 12.5,
        "singular_values": {"conv": [2.0, 0.5, 0.1], "linear": [1.5]}
        if dense
        else {"conv": [1.0, 0.9], "linear": [1.0]},
        "largest_singular_value": 2.0 if dense else 1.0,
        "history": history,
        **changes,
    }


def ranked(method: str, frames: str, rank: int, seed: int = 0, **changes: Any) -> Result:
    """A finished run of a comparison of the ranks 2 and 8."""
    recipe = Recipe().changed(ranks={"svdp": [2, 8], "sttp": [2, 8]}, rank=rank)
    return result(method, frames, seed, recipe, ratio=3.0 * rank, **changes)


@pytest.fixture
def curves() -> list[Result]:
    """Dense, and SVDP and STTP on both paths at two ranks, two seeds."""
    variants = [(m, f, r) for m in ("svdp", "sttp") for f in ("riemannian", "householder") for r in (2, 8)]
    return [run for seed in (0, 1) for run in (result("dense", seed=seed), *(ranked(*v, seed) for v in variants))]


@pytest.fixture
def results() -> list[Result]:
    """Dense, SVDP and STTP on both paths, two seeds."""
    variants = [("dense", "riemannian")]
    variants += [(method, frames) for method in ("svdp", "sttp") for frames in ("riemannian", "householder")]
    return [result(method, frames, seed) for seed in (0, 1) for method, frames in variants]
