"""Recipes that the package ships: one YAML file a study, and one for all of the paper's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.recipes.reading import load
from sttp_riemann.lab.training.plain import shown

LARGEST_FILE = 2**20
"""Bytes of a recipe."""


def names() -> list[str]:
    """Names of the recipes that the package ships, in order."""
    return sorted(name for name in _shipped() if not name.startswith("_"))


def read(recipe: str) -> dict[str, Any]:
    """Fields that a recipe sets, not yet validated; what it does not set is that of the one that it ``extends``.

    Parameters
    ----------
    recipe : str
        The name of a shipped recipe, or the path of a YAML file; so is what stands after ``extends:``, a path from the
        folder of the file that it stands in.

    Returns
    -------
    dict
        Fields by section.

    Raises
    ------
    RecipeError
        There is no such recipe, it is not a YAML mapping, or it extends itself.
    """
    return _read(recipe, Path(), ())


def _read(recipe: object, folder: Path, before: Sequence[object]) -> dict[str, Any]:
    if isinstance(recipe, str) and recipe in _shipped():
        place: object = recipe
        fields = copy.deepcopy(_shipped()[recipe])
    else:
        place, fields = _file(recipe, folder, before)
    if place in before:
        raise RecipeError(f"recipe {shown(str(place), 120)} extends itself: leave one extends out of the circle")
    base = fields.pop("extends", None)
    if base is None:
        return fields
    inside = place.parent if isinstance(place, Path) else folder
    found = _read(base, inside, (*before, place))
    for name, value in fields.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = {**found[name], **value} if both else value
    return found


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    there = [file for file in files(__name__).iterdir() if file.name.endswith(".yaml")]
    found = {file.name.removesuffix(".yaml"): load(file.read_bytes()) for file in there}
    found |= found.pop("paper")
    return {name: {"name": name, **fields} for name, fields in found.items()}


def _file(recipe: object, folder: Path, before: Sequence[object]) -> tuple[Path, dict[str, Any]]:
    """Read a user's own recipe; also give its place."""
    asked = shown(recipe, 120)
    whose = f"{shown(str(before[-1]), 80)} extends {asked}" if before else asked
    try:
        path = (folder / recipe).resolve() if isinstance(recipe, str) else None
        if path is None or path.suffix not in (".yaml", ".yml") or not path.is_file():
            near = get_close_matches(recipe, names()) if isinstance(recipe, str) else []
            such = f" such as {' or '.join(near)}" if near else ""
            listed = "(sttp-riemann recipes lists them)"
            raise RecipeError(f"unknown recipe {whose}: name a shipped one{such} {listed}, or an existing .yaml file")
        if path.stat().st_size > LARGEST_FILE:
            raise RecipeError(f"recipe {asked} has more than {LARGEST_FILE} bytes")
        text = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"recipe {asked} cannot be read: {error.strerror}") from error
    try:
        fields = load(text)
    except ValueError as error:
        raise RecipeError(f"recipe {asked} {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"recipe {asked} must be a mapping of section: fields")
    return path, fields
