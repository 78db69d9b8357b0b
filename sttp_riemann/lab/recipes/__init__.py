"""Recipes that the package ships: one YAML file a study."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.recipes.reading import load
from sttp_riemann.lab.training.checks import check_path
from sttp_riemann.lab.training.typecheck import shown

LARGEST_FILE = 2**20
"""Bytes of a recipe."""


def names() -> list[str]:
    """Names of the recipes that the package ships, in order."""
    return sorted(f.name.removesuffix(".yaml") for f in files(__name__).iterdir() if f.name.endswith(".yaml"))


def read(recipe: str) -> dict[str, Any]:
    """Fields that a recipe sets, not yet validated; ``extends: NAME`` takes what it does not set from a shipped one.

    Parameters
    ----------
    recipe : str
        The name of a shipped recipe, or the path of a YAML file.

    Returns
    -------
    dict
        Field name to value.

    Raises
    ------
    RecipeError
        There is no such recipe, or it is not a YAML mapping.
    """
    text = _text(recipe)
    try:
        fields = load(text)
    except ValueError as error:
        raise RecipeError(f"recipe {shown(recipe, 120)} {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"recipe {shown(recipe, 120)} must be a mapping of field: value")
    base = fields.pop("extends", None)
    if base is None:
        return fields
    # Shipped recipes extend no others of a user's, so no chain of them comes back to its start
    if base not in names() or base == recipe:
        raise RecipeError(
            f"recipe {shown(recipe, 120)} extends {shown(base)}: name another shipped recipe{_near(base)}"
        )
    return {**read(base), **fields}


def _text(recipe: str) -> bytes:
    if recipe in names():
        return files(__name__).joinpath(f"{recipe}.yaml").read_bytes()
    check_path("recipe", recipe)
    path = Path(recipe)
    try:
        if path.suffix not in (".yaml", ".yml") or not path.is_file():
            raise RecipeError(
                f"unknown recipe {shown(recipe, 120)}: name a shipped one{_near(recipe)}, or an existing .yaml file"
            )
        if path.stat().st_size > LARGEST_FILE:
            raise RecipeError(f"recipe {shown(recipe, 120)} has more than {LARGEST_FILE} bytes")
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"recipe {shown(recipe, 120)} cannot be read: {error.strerror}") from error


def _near(name: object) -> str:
    near = get_close_matches(name, names()) if isinstance(name, str) else []
    such = f" such as {' or '.join(near)}" if near else ""
    return f"{such} (sttp-riemann recipes lists them)"
