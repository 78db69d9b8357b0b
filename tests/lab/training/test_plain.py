from __future__ import annotations

from typing import Any

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.plain import check_plain, check_text, shown


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({5: 4}, "keys of field must be text, not 5"),
        ({"a": {None: 4}}, "keys of field must be text, not None"),
        ({"a": [{1.5: 4}]}, "keys of field must be text, not 1.5"),
        ({"a": float("inf")}, "each value in field must be a finite number, not inf"),
        ({"a": [1, {"b": float("nan")}]}, "each value in field must be a finite number, not nan"),
        (float("nan"), "field must be a finite number, not nan"),
        ({"a": 2**31}, "each value in field must be at most 2147483647, not 2147483648"),
        ({"a": -(2**64)}, "each value in field must be at most 2147483647, not -18446744073709551616"),
        (
            {"a": object},
            "each value in field must be made of numbers, text, lists and mappings, not <class 'object'>",
        ),
        ({"a": _nested(1000)}, "field must not be nested more than 8 levels deep"),
        ({"a": LOOP}, "field must not be nested more than 8 levels deep"),
        ({"a": [[0] * 200] * 200}, "field holds more than 10000 values"),
        ([0] * 20_000, "field holds more than 10000 values"),
        ({"a": "x" * 5000}, "each value in field must have at most 4096 characters, not 5000"),
        ({"\0": 1}, r"a key of field must not hold a zero byte: '\x00'"),
        ({"\ud800": 1}, r"a key of field must be UTF-8, not '\ud800'"),
        ({"a": "{b: &c [1], d: *c}"}, "each value in field must not refer to parts of itself: '{b: &c [1], d: *c}'"),
    ],
)
def test_what_no_field_can_hold_is_refused_in_words(value, message):
    with pytest.raises(RecipeError) as error:
        check_plain("field", value)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["*conv", "a & b * c", "[" * 1500, "x: y"])
def test_text_that_names_no_part_of_itself_is_text(text):
    check_text("field", text)


@pytest.mark.parametrize(
    "value", ["short", 17, "x" * 10**6, ["x"] * 100, {"a": {"b": {"c": {"d": 1}}}}, pytest.param(10**5000, id="huge")]
)
def test_what_is_shown_is_no_longer_than_asked_for(value):
    assert len(shown(value, 40)) <= 40
    assert len(shown(value)) <= 80
