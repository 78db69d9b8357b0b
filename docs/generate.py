"""Pages that are made from the package, so that they cannot fall behind it: recipe fields, recipes, command line."""

from __future__ import annotations

import json
from pathlib import Path

from sttp_riemann.lab import recipes
from sttp_riemann.lab.cli.arguments import COMMANDS
from sttp_riemann.lab.training.fields import words
from sttp_riemann.lab.training.recipe import FIELDS

HEAD = ("field", "option", "values", "default", "meaning", "only for task", "may change when a run is resumed")


def write(folder: Path) -> None:
    """Write all generated parts into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "fields.md").write_text(fields(), encoding="utf-8")
    (folder / "recipes.md").write_text(shipped(), encoding="utf-8")
    (folder / "commands.md").write_text(commands(), encoding="utf-8")


def fields() -> str:
    """Table of all fields of a recipe by section: name, option, values, default, meaning, and where it is of use."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for name, field in FIELDS.items():
        default = json.dumps(field.default).replace('"', "")
        task = ", ".join(field.tasks)
        row = [f"`{'.'.join(field.path)}`", f"`--{name}`", words(field.hint), f"`{default}`", field.metadata["help"]]
        row += [task, "" if field.metadata["matters"] else "yes"]
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
    for name, (description, unused, own) in COMMANDS.items():
        lines = [f"| `{option}` | {help} |" for option, (_, help, *_) in own.items()]
        table = ["| option | meaning |", "|---|---|", *lines] if lines else []
        fields = "Every [field of a recipe](recipes.md#fields) that has a use here is an option as well."
        parts.append("\n".join([f"## {name}", "", description, "", *table, "", "" if unused is None else fields, ""]))
    return "\n".join(parts)
