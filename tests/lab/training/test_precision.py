"""Mixed precision over a long run: the network computes narrow, its frames do not."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch

from sttp_riemann.lab import recipes
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe

STEPS = 2000
# Processors without instructions for bf16 take ten times as long as in float32
SMALL = {"width": 16, "depth": 2}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_bf16_keeps_frames_orthonormal_and_the_accuracy_within_a_point(method: Any, frames: Any, tmp_path) -> None:
    study = Recipe.from_dict(recipes.read("digits")).changed(network_options=SMALL)
    study = study.changed(steps=STEPS, evaluate_every=200, device="cpu")
    accuracies: dict[str, list[float]] = {"float32": [], "bf16": []}
    # Seeds differ by more than a point among themselves, so means are compared
    for seed in study.study.seeds:
        for precision, found in accuracies.items():
            run = study.for_run(method, frames, seed).changed(precision=precision)
            trainer = Trainer(run, tmp_path / f"{precision}{seed}")
            result = trainer.run()
            assert {p.dtype for p in trainer.task.players["classifier"].model.parameters()} == {torch.float32}
            assert result["largest_orthogonality_error"] < 1e-5
            found.append(result["final"]["test_accuracy"])
    means = {precision: statistics.fmean(found) for precision, found in accuracies.items()}
    assert abs(means["bf16"] - means["float32"]) < 0.01, accuracies
