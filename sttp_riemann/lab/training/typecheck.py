"""Values that come as text or YAML, checked against a type hint."""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin

from sttp_riemann.errors import RecipeError

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
LARGEST_WHOLE = 2**31 - 1
"""Of the whole numbers in a mapping; fields have bounds of their own."""
LONGEST_TEXT = 4096
LONGEST_LIST = 10_000
MOST_VALUES = 10_000
"""Values in a mapping, all levels together."""
DEEPEST = 8


def shown(value: Any, longest: int = 80) -> str:
    """Show a value in a message, cut short where it is long.

    Parameters
    ----------
    value : Any
        Of any size and depth; only as much as is shown is looked at.
    longest : int
        Most characters.

    Returns
    -------
    str
        On one line.
    """
    try:
        text = repr(value[: 2 * longest] + value[2 * longest :][-30:]) if isinstance(value, str) else _SHORT.repr(value)
    except ValueError:
        return "a whole number of thousands of digits"
    return text if len(text) <= longest else f"{text[: longest - 23]}...{text[-20:]}"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist = 3, 6, 12
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def coerce(name: str, value: Any, hint: Any) -> Any:
    """Give `value` as the hint wants it.

    Parameters
    ----------
    name : str
        Field that the value is for, for the message.
    value : Any
        What was given.
    hint : Any
        bool, int, float, str, dict, list[...], Literal[...], or a union of these, None included; its first that fits.

    Returns
    -------
    Any
        The value; a whole number becomes a float where a float is wanted.

    Raises
    ------
    RecipeError
        The value is of another type, a number is not finite, or it is larger than anything that could be meant.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _any_of(name, value, inner)
    if origin is Literal:
        if not isinstance(value, str) or value not in inner:
            raise RecipeError(f"{name} must be one of {', '.join(map(str, inner))}, not {shown(value)}")
        return value
    if origin is list:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{name} must be a list, not {shown(value)}")
        if len(value) > LONGEST_LIST:
            raise RecipeError(f"{name} must have at most {LONGEST_LIST} entries, not {len(value)}")
        return [coerce(name, item, inner[0]) for item in value]
    plain = origin or hint
    if plain is float:
        value = _as_float(value)
    # bool is an int to Python, and not to who writes a recipe
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        raise RecipeError(f"{name} must be {WORDS[plain]}, not {shown(value)}")
    if plain is dict:
        _check_plain(name, value)
    elif plain in (str, float):
        _check_leaf(name, value)
    return value


def check_text(name: str, text: str) -> None:
    """Refuse text that no file name, table or report can hold.

    Parameters
    ----------
    name : str
        Field or option that it is of.
    text : str
        What was given.

    Raises
    ------
    RecipeError
        It is too long, holds a zero byte, or is not UTF-8.
    """
    if len(text) > LONGEST_TEXT:
        raise RecipeError(f"{name} must have at most {LONGEST_TEXT} characters, not {len(text)}")
    if "\0" in text:
        raise RecipeError(f"{name} must not hold a zero byte: {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"{name} must be UTF-8, not {shown(text)}") from error


def _check_leaf(name: str, value: Any) -> None:
    if isinstance(value, str):
        check_text(name, value)
    elif isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise RecipeError(f"{name} must be at most {LARGEST_WHOLE}, not {shown(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{name} must be a finite number, not {value}")


def _check_plain(name: str, mapping: dict[Any, Any]) -> None:
    """See to it that a mapping holds plain values under names, and few enough: aliases of YAML make many of few."""
    level: list[Any] = [mapping]
    seen = 0
    for _ in range(DEEPEST):
        below: list[Any] = []
        for value in level:
            seen += 1
            if isinstance(value, dict):
                for key in value:
                    if not isinstance(key, str):
                        raise RecipeError(f"keys of {name} must be text, not {shown(key)}")
                    check_text(f"a key of {name}", key)
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
            elif value is None or isinstance(value, str | int | float):
                _check_leaf(f"each value in {name}", value)
            else:
                raise RecipeError(f"values in {name} must be numbers, text, lists or mappings, not {shown(value)}")
            if seen + len(below) > MOST_VALUES:
                raise RecipeError(f"{name} holds more than {MOST_VALUES} values")
        level = below
    if level:
        raise RecipeError(f"{name} must not be nested more than {DEEPEST} levels deep")


def _any_of(name: str, value: Any, hints: Sequence[Any]) -> Any:
    if value is None and type(None) in hints:
        return None
    wanted = [hint for hint in hints if hint is not type(None)]
    kinds = [get_origin(hint) or hint for hint in wanted]
    for hint, kind in zip(wanted[:-1], kinds, strict=False):
        # What is of one of the types and still refused is refused with that reason
        if not isinstance(kind, type) or not isinstance(value, kind) or isinstance(value, bool):
            with suppress(RecipeError):
                return coerce(name, value, hint)
        else:
            return coerce(name, value, hint)
    try:
        return coerce(name, value, wanted[-1])
    except RecipeError as error:
        if len(wanted) == 1 or isinstance(value, kinds[-1]):
            raise
        words = " or ".join(WORDS[kind] for kind in kinds)
        raise RecipeError(f"{name} must be {words}, not {shown(value)}") from error


def _as_float(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 as text
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return value
        except OverflowError:
            return math.inf
    return value
