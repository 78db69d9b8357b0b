from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sttp_riemann.lab.studies.classify import CLASSIFY
from sttp_riemann.lab.studies.page import DEFAULT, Page, build_page
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.runs import Result
from sttp_riemann.lab.training.loop import RESULT
from sttp_riemann.lab.training.recipe import FIELDS, Recipe, nest

VARIANTS = [("dense", "riemannian")]
VARIANTS += [(method, path) for method in ("svdp", "sttp") for path in ("riemannian", "householder")]


def result(
    method: str, frames: str = "riemannian", seed: int = 0, accuracy: float | None = None, **changes: Any
) -> Result:
    """A finished run that nobody ran; what is no part of a result changes its recipe."""
    own = {name: changes.pop(name) for name in list(changes) if name in FIELDS}
    recipe = Recipe().changed(method=method, frames=frames, seed=seed, **own)
    dense = method == "dense"
    accuracy = 0.92 + 0.01 * seed if accuracy is None else accuracy
    history = [
        {"step": step, "train_loss": 1 / step, "test_loss": 2 / step, "test_accuracy": accuracy - 0.001 * (20 - step)}
        for step in (10, 20)
    ]
    if not dense:
        history = [{**row, "orthogonality_error": 1e-6 * row["step"]} for row in history]
    place = Path("runs") / f"{method}-{frames}-{sorted(own.items())}" / f"seed{seed}"
    return {
        "recipe": recipe.flat(),
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
        "folder": place,
        **changes,
    }


def validated(run: Result, accuracy: float) -> Result:
    """The same run with images held out."""
    history = [{**row, "validation_accuracy": accuracy} for row in run["history"]]
    return {**run, "history": history, "final": history[-1]}


def study(seeds: int = 2, **changes: Any) -> list[Result]:
    """Dense, SVDP and STTP on both paths."""
    return [result(method, path, seed, **changes) for seed in range(seeds) for method, path in VARIANTS]


def curves(seeds: int = 2, ranks: tuple[int, ...] = (2, 8)) -> list[Result]:
    """Dense, and the others at several ranks."""
    runs = [result("dense", seed=seed) for seed in range(seeds)]
    for method, path in VARIANTS[1:]:
        runs += [result(method, path, seed, rank=r, ratio=3.0 * r) for r in ranks for seed in range(seeds)]
    return runs


def page(runs: list[Result], reading: Reading = DEFAULT) -> Page:
    return build_page(runs, CLASSIFY, reading)


def stored(run: Result) -> dict[str, Any]:
    """What a file holds of a run."""
    return {**{k: v for k, v in run.items() if k != "folder"}, "recipe": nest(run["recipe"])}


def store(runs: list[Result], folder: Path) -> Path:
    """Write finished runs into a folder each."""
    for number, run in enumerate(runs):
        own = folder / f"{number}"
        own.mkdir(parents=True)
        own.joinpath(RESULT).write_text(json.dumps(stored(run)))
    return folder


@pytest.fixture
def results() -> list[Result]:
    return study()
