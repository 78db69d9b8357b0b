from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.ablation.drift import drift


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_short_descent_in_float32_stays_by_that_in_float64(frames):
    found = drift("sttp", frames, 4, 20)
    assert 0 < found.distance < 1e-4
    assert 0 < found.orthogonality < 1e-5
