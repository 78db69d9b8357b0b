from __future__ import annotations

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.reading import Reading


@pytest.mark.parametrize("margin", [0, -1.0, float("nan"), float("inf")])
def test_a_margin_that_holds_nothing_is_refused(margin):
    with pytest.raises(RecipeError, match="margin must be positive"):
        Reading(margin=margin)


@pytest.mark.parametrize("target", [0, 1, 95, float("nan")])
def test_a_target_is_a_fraction(target):
    with pytest.raises(RecipeError, match="target must be between 0 and 1"):
        Reading(target=target)


def test_choose_takes_a_list():
    with pytest.raises(RecipeError, match="choose takes a list of fields"):
        Reading(choose="moment")


def test_sizes_are_compression_degrees_of_freedom_or_stored_numbers():
    with pytest.raises(RecipeError, match="size must be one of ratio, dof, stored, not 'bytes'"):
        Reading(size="bytes")
