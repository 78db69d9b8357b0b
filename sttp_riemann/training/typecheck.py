"""Values that come as text or YAML, checked against a type hint."""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin

from sttp_riemann.training.errors import RecipeError


def coerce(name: str, value: Any, hint: Any) -> Any:
    """Give `value` as the hint wants it.

    Parameters
    ----------
    name : str
        Field that the value is for, for the message.
    value : Any
        What was given.
    hint : Any
        bool, int, float, str, dict, list[...], Literal[...] or one of these or None.

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
        optional = next(h for h in inner if h is not type(None))
        return None if value is None else coerce(name, value, optional)
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
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
        raise RecipeError(f"{name} must be {wanted[plain]}, not {value!r}")
    if plain is float and not math.isfinite(value):
        raise RecipeError(f"{name} must be a finite number, not {value!r}")
    return value


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
