from __future__ import annotations

from typing import Any, Literal

import pytest

from sttp_riemann.training.errors import RecipeError
from sttp_riemann.training.typecheck import coerce


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (3, int, 3),
        (3, float, 3.0),
        ("1e-3", float, 1e-3),
        (None, int | None, None),
        (5, int | None, 5),
        ("a", Literal["a", "b"], "a"),
        ((1, 2), list[int], [1, 2]),
        ([1, "2e0"], list[float], [1.0, 2.0]),
        ({"a": 1}, dict[str, Any], {"a": 1}),
        (True, bool, True),
        (3, int | float | dict[str, Any], 3),
        (0.5, int | float | dict[str, Any], 0.5),
        ("5e-1", int | float | dict[str, Any], 0.5),
        ({"a": 1}, int | float | dict[str, Any], {"a": 1}),
    ],
)
def test_a_value_becomes_what_the_hint_wants(value, hint, wanted):
    found = coerce("field", value, hint)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("x", int, "field must be a whole number, not 'x'"),
        (1.5, int, "field must be a whole number, not 1.5"),
        (True, int, "field must be a whole number, not True"),
        (1, bool, "field must be true or false, not 1"),
        ("many", float, "field must be a number, not 'many'"),
        (float("nan"), float, "field must be a finite number, not nan"),
        ("inf", float, "field must be a finite number, not inf"),
        (None, str, "field must be text, not None"),
        ("c", Literal["a", "b"], "field must be one of a, b, not 'c'"),
        (["a"], Literal["a", "b"], "field must be one of a, b, not ['a']"),
        ("ab", list[str], "field must be a list, not 'ab'"),
        ([1], dict[str, Any], "field must be a mapping, not [1]"),
        (["x"], list[int], "field must be a whole number, not 'x'"),
        ("x", int | dict[str, Any], "field must be a whole number or a mapping, not 'x'"),
        ("x", float | None, "field must be a number, not 'x'"),
    ],
)
def test_another_type_is_refused_in_words(value, hint, message):
    with pytest.raises(RecipeError) as error:
        coerce("field", value, hint)
    assert str(error.value) == message
