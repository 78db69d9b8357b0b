"""Pages that are made from the package, so that they cannot fall behind it: recipe fields, recipes, command line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from sttp_riemann.lab import recipes
from sttp_riemann.lab.cli.arguments import build_parser
from sttp_riemann.lab.training.recipe import Recipe

RECIPE_FIELDS = frozenset(field.name for field in dataclasses.fields(Recipe))


def write(folder: Path) -> None:
    """Write all generated parts into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "fields.md").write_text(fields(), encoding="utf-8")
    (folder / "recipes.md").write_text(shipped(), encoding="utf-8")
    (folder / "commands.md").write_text(commands(), encoding="utf-8")


def fields() -> str:
    """Table of all fields of a recipe: name, type, default, meaning."""
    hints = get_type_hints(Recipe)
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(Recipe):
        row = [f"`{field.name}`", _type(hints[field.name]), f"`{_default(field)}`", field.metadata["help"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def shipped() -> str:
    """Table of the shipped recipes."""
    lines = ["| recipe | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {recipes.read(name).get('summary', '')} |" for name in recipes.names()]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Options of every command, those that are fields of a recipe left out."""
    parts = []
    for name, parser in build_parser()._subcommands_action.choices.items():
        lines = _own_options(parser)
        table = ["| option | meaning |", "|---|---|", *lines] if lines else []
        fields = "Every [field of a recipe](recipes.md#fields) that has a use here is an option as well."
        own = _takes_fields(parser)
        parts.append("\n".join([f"## {name}", "", parser.description or "", "", *table, "", fields if own else "", ""]))
    return "\n".join(parts)


def _own_options(parser: Any) -> list[str]:
    known = RECIPE_FIELDS if _takes_fields(parser) else frozenset()
    lines = []
    for action in parser._actions:
        if action.dest in known or action.dest in ("help", "config"):
            continue
        lines.append(f"| `{', '.join(action.option_strings) or action.dest.upper()}` | {action.help or ''} |")
    return lines


def _takes_fields(parser: Any) -> bool:
    return "optimizer" in {action.dest for action in parser._actions}


def _type(hint: Any) -> str:
    text = re.sub(r"typing\.|<class '(\w+)'>", r"\1", str(hint))
    return re.sub(r"Literal\[(.*?)\]", r"\1", text).replace("NoneType", "None")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    assert field.default_factory is not dataclasses.MISSING
    value: Mapping[str, Any] | list[Any] = field.default_factory()
    return repr(value)
