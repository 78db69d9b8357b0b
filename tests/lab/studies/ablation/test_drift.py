from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.ablation.drift import drift


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_short_descent_in_float32_stays_by_that_in_float64(frames):
    assert 0 < drift("sttp", frames, 4, 20) < 1e-4


def test_seeds_differ():
    assert drift("sttp", "riemannian", 4, 5, seed=0) != drift("sttp", "riemannian", 4, 5, seed=1)
