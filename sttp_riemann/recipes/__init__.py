"""Recipes that the package ships: one YAML file a study."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from sttp_riemann.training.errors import RecipeError


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
    if recipe in names():
        text = files(__name__).joinpath(f"{recipe}.yaml").read_text(encoding="utf-8")
    elif Path(recipe).suffix in (".yaml", ".yml") and Path(recipe).is_file():
        text = Path(recipe).read_text(encoding="utf-8")
    else:
        raise RecipeError(
            f"unknown recipe {recipe!r}: give one of {', '.join(names())}, or the path of an existing .yaml file"
        )
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise RecipeError(f"recipe {recipe!r} is not valid YAML{line}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"recipe {recipe!r} must be a mapping of field: value")
    base = fields.pop("extends", None)
    if base is None:
        return fields
    # Shipped recipes extend no others of a user's, so no chain of them comes back to its start
    if base not in names() or base == recipe:
        known = ", ".join(names())
        raise RecipeError(f"recipe {recipe!r} extends {base!r}: name another shipped recipe, one of {known}")
    return {**read(base), **fields}
