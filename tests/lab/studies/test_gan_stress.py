"""What the recipe gan-stress is for, on one seed."""

from __future__ import annotations

import pytest

from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.collapse import detect
from sttp_riemann.lab.studies.compare import compare
from sttp_riemann.lab.studies.records import read_records
from sttp_riemann.lab.training.recipe import Recipe


@pytest.mark.slow
def test_the_detector_tells_collapsed_discriminators_from_constrained_ones(tmp_path, digits_cache):
    changes = {
        "methods": ["dense", "sn", "svdp", "sttp"],
        "spectra": ["C"],
        "seeds": [1],
        "metrics": [],
        "device": "cpu",
    }
    study = compare(Recipe.from_dict(recipes.read("gan-stress")).changed(**changes), tmp_path)
    table = study.table.set_index("variant")
    assert list(table.index[table.collapse_step.isna()]) == [
        f"{method}-C {path}" for method in ("SVDP", "STTP") for path in ("riemannian", "householder")
    ]
    for title in ("dense", "SN"):
        collapse = detect(read_records(study.page.first(title)))
        assert collapse.layer is not None, title
        assert collapse.spectral_norm[1] > 1.2 * collapse.spectral_norm[0]
        assert collapse.stable_rank[1] < 0.85 * collapse.stable_rank[0]
