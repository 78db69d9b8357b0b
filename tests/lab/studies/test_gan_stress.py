"""What the recipe gan-stress is for, on one seed and fewer steps."""

from __future__ import annotations

import pytest

from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.compare import compare
from sttp_riemann.lab.studies.gan_results import tabulate_gan
from sttp_riemann.lab.training.recipe import Recipe


@pytest.mark.slow
def test_the_detector_tells_collapsed_discriminators_from_constrained_ones(tmp_path, digits_cache):
    changes = {"methods": ["dense", "sn", "svdp", "sttp"], "seeds": [1], "steps": 150, "metrics": [], "device": "cpu"}
    results, _ = compare(Recipe.from_dict(recipes.read("gan-stress")).changed(**changes), tmp_path)
    found = {row.label: [run.collapse for run in row.runs] for row in tabulate_gan(results)}
    healthy = [label for label, (collapse,) in found.items() if collapse is None]
    assert healthy == [f"{method}-c-{path}" for method in ("svdp", "sttp") for path in ("riemannian", "householder")]
    for label in ("dense", "sn"):
        (collapse,) = found[label]
        assert collapse.layer is not None, label
        assert collapse.spectral_norm[1] > 1.2 * collapse.spectral_norm[0]
        assert collapse.stable_rank[1] < 0.85 * collapse.stable_rank[0]
