from __future__ import annotations

from typing import Any, Literal, get_args

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.fields import Count, Field, FilePath, FolderName, Fraction, LearningRate, Rank
from sttp_riemann.lab.training.recipe import FIELDS


def field(hint: Any) -> Field:
    return Field(("field",), hint, None, {"qualified": False})


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (3, Count, 3),
        ("3", Count, 3),
        (3, LearningRate, 3.0),
        ("1e-3", LearningRate, 1e-3),
        (None, Count | None, None),
        (5, Count | None, 5),
        ("a", Literal["a", "b"], "a"),
        ((1, 2), list[Count], [1, 2]),
        ([1, "2e0"], list[LearningRate], [1.0, 2.0]),
        ({"a": "1e-3"}, dict[str, Any], {"a": "1e-3"}),
        (True, bool, True),
        (1, Rank, 1),
        (1.0, Rank, 1.0),
        ("5e-1", Rank | dict[str, Rank], 0.5),
        ({"a": 1.0, "b": 1}, Rank | dict[str, Rank], {"a": 1.0, "b": 1}),
        ("é" * 100, FolderName, "é" * 100),
    ],
)
def test_a_value_becomes_what_the_type_wants(value, hint, wanted):
    found = field(hint).check(value)
    assert found == wanted
    assert type(found) is type(wanted)
    if isinstance(wanted, dict | list):
        inner = zip(*(v.values() if isinstance(v, dict) else v for v in (found, wanted)), strict=True)
        assert all(type(ours) is type(theirs) for ours, theirs in inner)


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("x", Count, "a whole number from 1 to 1,000,000, not 'x'"),
        (0, Count, "a whole number from 1 to 1,000,000, not 0"),
        (1.5, Count, "a whole number from 1 to 1,000,000, not 1.5"),
        (2.0, Count, "a whole number from 1 to 1,000,000, not 2.0"),
        (True, Count, "a whole number from 1 to 1,000,000, not True"),
        (1, bool, "true or false, not 1"),
        ("many", LearningRate, "a number above 0 and at most 1e+30, not 'many'"),
        (True, LearningRate, "a number above 0 and at most 1e+30, not True"),
        ("inf", LearningRate, "a number above 0 and at most 1e+30, not 'inf'"),
        (1.0, Fraction, "a number from 0 to below 1, not 1.0"),
        (None, str, "text, not None"),
        (5, str, "text, not 5"),
        ("c", Literal["a", "b"], "one of a, b, not 'c'"),
        (["a"], Literal["a", "b"], "one of a, b, not ['a']"),
        ("ab", list[str], "a list, each text, not 'ab'"),
        ([1], dict[str, Any], "a mapping, not [1]"),
        ([2.5], list[Count], "a list, each a whole number from 1 to 1,000,000, not [2.5]"),
        ({"a": 4}, dict[str, dict[str, Any]], "a mapping, each a mapping, not {'a': 4}"),
        ("", FolderName, "text that names one folder, in at most 200 bytes, not ''"),
        ("../x", FolderName, "text that names one folder, in at most 200 bytes, not '../x'"),
        ("..", FolderName, "text that names one folder, in at most 200 bytes, not '..'"),
        ("é" * 60 + "x" * 81, FolderName, "text that names one folder, in at most 200 bytes, not"),
        ("a/" + "x" * 256, FilePath, "text that is a path with parts of at most 255 bytes, not"),
    ],
)
def test_another_value_is_refused_in_words(value, hint, words):
    with pytest.raises(RecipeError) as error:
        field(hint).check(value)
    assert str(error.value).startswith(f"field must be {words}")


RANK = "a whole number from 1 to 2,147,483,647, or a number above 0 and at most 1"


@pytest.mark.parametrize("value", [-1, 0, 2.5, 1.5, {"conv*": 0}, {"conv*": "all"}, 2**31, [4]])
def test_what_is_no_rank_is_refused(value):
    with pytest.raises(RecipeError, match=f"^rank must be {RANK}, or a mapping, each {RANK}, not "):
        FIELDS["rank"].check(value)


def _hints(hint: Any) -> set[Any]:
    return {hint, *(one for inner in get_args(hint) for one in _hints(inner))}


WHOLE = [name for name, f in FIELDS.items() if int in _hints(f.hint) and name not in ("seed", "seeds")]
NUMBERS = [name for name, f in FIELDS.items() if float in _hints(f.hint)]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [2**31, 2**64, pytest.param(10**5000, id="huge"), -1])
def test_every_whole_number_has_a_bound_far_below_what_overflows(name, value):
    with pytest.raises(RecipeError, match=f"^{name} must ") as error:
        FIELDS[name].check(value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", [1e300, "1e300", float("nan"), float("inf"), pytest.param(10**5000, id="huge"), -1e-300]
)
def test_every_number_has_a_bound_that_float32_can_hold(name, value):
    with pytest.raises(RecipeError, match=f"^{name} must be "):
        FIELDS[name].check(value)


@pytest.mark.parametrize("value", [2**64, -1, "x"])
def test_a_seed_is_one_that_torch_takes(value):
    for name in ("seed", "seeds"):
        with pytest.raises(RecipeError, match=f"{name} must be "):
            FIELDS[name].check(value if name == "seed" else [value])
    assert FIELDS["seed"].check(2**63 - 1) == 2**63 - 1
