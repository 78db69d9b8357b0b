"""Values that come as text or YAML, checked against a type hint."""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin

from sttp_riemann.training.errors import RecipeError

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}


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
        The value is of another type.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _any_of(name, value, inner)
    if origin is Literal:
        if value not in inner:
            raise RecipeError(f"{name} must be one of {', '.join(map(str, inner))}, not {value!r}")
        return value
    if origin is list:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{name} must be a list, not {value!r}")
        return [coerce(name, item, inner[0]) for item in value]
    plain = origin or hint
    if plain is float:
        value = _as_float(value)
    # bool is an int to Python, and not to who writes a recipe
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        raise RecipeError(f"{name} must be {WORDS[plain]}, not {value!r}")
    if plain is float and not math.isfinite(value):
        raise RecipeError(f"{name} must be a finite number, not {value!r}")
    return value


def _any_of(name: str, value: Any, hints: Sequence[Any]) -> Any:
    if value is None and type(None) in hints:
        return None
    wanted = [hint for hint in hints if hint is not type(None)]
    for hint in wanted[:-1]:
        with suppress(RecipeError):
            return coerce(name, value, hint)
    try:
        return coerce(name, value, wanted[-1])
    except RecipeError as error:
        if len(wanted) == 1:
            raise
        kinds = " or ".join(WORDS[get_origin(hint) or hint] for hint in wanted)
        raise RecipeError(f"{name} must be {kinds}, not {value!r}") from error


def _as_float(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value
