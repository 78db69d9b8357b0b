"""The standard error of KID: as large as KID differs between sets of samples."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.metrics.kid import KID_ERROR, kid_figures

SETTINGS = {"kid_subsets": 60, "kid_subset_size": 50, "verbose": False}
MEAN, STD = "kernel_inception_distance_mean", "kernel_inception_distance_std"


def draw(count: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 6) + shift


def test_the_error_is_that_of_other_samples():
    found = [kid_figures(draw(200, 0.6), draw(200), SETTINGS) for _ in range(40)]
    told = torch.tensor([each[KID_ERROR] for each in found]).mean().item()
    true = torch.tensor([each[MEAN] for each in found]).std().item()
    assert told == pytest.approx(true, rel=0.4)


def test_more_subsets_of_the_same_samples_do_not_make_the_error_vanish():
    samples, real = draw(200, 0.6), draw(200)
    few, many = (kid_figures(samples, real, {**SETTINGS, "kid_subsets": n})[KID_ERROR] for n in (20, 400))
    assert many > 0.6 * few


def test_the_error_follows_from_the_deviation_over_subsets():
    found = kid_figures(draw(150, 0.6), draw(200), SETTINGS)
    assert found[KID_ERROR] == pytest.approx(found[STD] * (60 / 59 * (50 / 100 + 1 / 60)) ** 0.5)


@pytest.mark.parametrize(("count", "changes"), [(50, {}), (200, {"kid_subsets": 1})])
def test_an_error_that_cannot_be_known_is_not_told(count, changes):
    found = kid_figures(draw(count), draw(200), {**SETTINGS, **changes})
    assert found.keys() == {MEAN, STD}
