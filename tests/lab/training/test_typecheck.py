from __future__ import annotations

from typing import Any, Literal

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.typecheck import coerce, shown


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
        ({"a": 2**31}, "each value in field must be at most 2147483647, not 2147483648"),
        ({"a": -(2**64)}, "each value in field must be at most 2147483647, not -18446744073709551616"),
        ({"a": object}, "values in field must be numbers, text, lists or mappings, not <class 'object'>"),
        ({"a": _nested(1000)}, "field must not be nested more than 8 levels deep"),
        ({"a": LOOP}, "field must not be nested more than 8 levels deep"),
        ({"a": [[0] * 200] * 200}, "field holds more than 10000 values"),
        ({"a": "x" * 5000}, "each value in field must have at most 4096 characters, not 5000"),
        ({"\0": 1}, r"a key of field must not hold a zero byte: '\x00'"),
        ({"\ud800": 1}, r"a key of field must be UTF-8, not '\ud800'"),
    ],
)
def test_what_no_mapping_can_hold_is_refused_in_words(value, message):
    with pytest.raises(RecipeError) as error:
        coerce("field", value, dict[str, Any])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("x" * 10**6, int),
        pytest.param(10**5000, str, id="huge number"),
        ({"a": [["x" * 1000] * 1000] * 1000}, int | float),
        (_nested(100_000), float | None),
        ([0] * 20_000, list[int]),
        ("x" * 5000, Literal["a", "b"]),
        pytest.param(10**5000, Literal["a", "b"], id="huge number of some"),
        ("x" * 5000, str),
    ],
)
def test_what_is_long_is_refused_in_a_short_message(value, hint):
    with pytest.raises(RecipeError) as error:
        coerce("field", value, hint)
    assert len(str(error.value)) < 160


@pytest.mark.parametrize("value", ["short", 17, "x" * 10**6, ["x"] * 100, {"a": {"b": {"c": {"d": 1}}}}])
def test_what_is_shown_is_no_longer_than_asked_for(value):
    assert len(shown(value, 40)) <= 40
    assert len(shown(value)) <= 80
