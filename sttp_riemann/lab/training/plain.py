"""Values from files and command lines: how messages show them, and which ones no recipe may contain."""

from __future__ import annotations

import math
import reprlib
from typing import Any

import yaml

from sttp_riemann.errors import RecipeError

LARGEST_WHOLE = 2**31 - 1
LARGEST_SEED = 2**63 - 1
"""torch's generators accept no larger seed."""
LONGEST_TEXT = 4096
MOST_VALUES = 10_000
"""Maximum number of values in one field, all levels together."""
DEEPEST = 8

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist = 3, 6, 12
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: Any, longest: int = 80) -> str:
    """Show a value in a message, shortened if long.

    Parameters
    ----------
    value : Any
        Of any size and depth; only the shown part is read.
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


def check_text(name: str, text: str) -> None:
    """Refuse text that does not fit into file names, tables or reports, or that grows when read as YAML.

    Parameters
    ----------
    name : str
        Field or option that holds it.
    text : str
        The given text.

    Raises
    ------
    RecipeError
        It is too long, holds a zero byte, is not UTF-8, or refers to parts of itself.
    """
    if len(text) > LONGEST_TEXT:
        raise RecipeError(f"{name} must have at most {LONGEST_TEXT} characters, not {len(text)}")
    if "\0" in text:
        raise RecipeError(f"{name} must not hold a zero byte: {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"{name} must be UTF-8, not {shown(text)}") from error
    if "&" in text and "*" in text and _repeats(text):
        raise RecipeError(f"{name} must not refer to parts of itself: {shown(text)}")


def _repeats(text: str) -> bool:
    """Whether YAML text refers to its own anchors: a few lines can then expand to millions of values."""
    try:
        return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return False


def check_plain(name: str, value: Any) -> None:
    """Refuse a value that is too large, or that contains anything but numbers and text.

    Parameters
    ----------
    name : str
        Field that holds the value.
    value : Any
        A number, text, or lists and mappings of such.

    Raises
    ------
    RecipeError
        The message names the field and the problem.
    """
    level, seen = [value], 0
    largest = LARGEST_WHOLE if isinstance(value, dict) else LARGEST_SEED
    for depth in range(DEEPEST + 1):
        below: list[Any] = []
        for item in level:
            seen += 1
            if isinstance(item, dict):
                for key in item:
                    if not isinstance(key, str):
                        raise RecipeError(f"keys of {name} must be text, not {shown(key)}")
                    check_text(f"a key of {name}", key)
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
            else:
                _check_leaf(f"each value in {name}" if depth else name, item, largest)
            if seen + len(below) > MOST_VALUES:
                raise RecipeError(f"{name} holds more than {MOST_VALUES} values")
        level = below
    if level:
        raise RecipeError(f"{name} must not be nested more than {DEEPEST} levels deep")


def _check_leaf(name: str, value: Any, largest: int) -> None:
    if isinstance(value, str):
        check_text(name, value)
    elif isinstance(value, int) and abs(value) > largest:
        raise RecipeError(f"{name} must be at most {largest}, not {shown(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{name} must be a finite number, not {value}")
    elif not (value is None or isinstance(value, int | float)):
        raise RecipeError(f"{name} must be made of numbers, text, lists and mappings, not {shown(value)}")
