"""User modules that add rows to registries: named with ``--import``, or installed with an entry point."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from importlib.metadata import entry_points

from sttp_riemann.errors import RecipeError, one_line

GROUP = "sttp_riemann.plugins"
"""Entry points of installed packages whose modules are imported before a recipe is read."""
OPTION = "--import"
_imported: list[str] = []


def imported() -> list[str]:
    """Modules that were imported to add rows, in order; stored with a run, which cannot be read without them."""
    return list(_imported)


def import_modules(names: Sequence[str]) -> None:
    """Import modules that add rows to registries.

    Parameters
    ----------
    names : sequence of str
        Dotted names of modules, found in the working directory or where Python finds them.

    Raises
    ------
    RecipeError
        One cannot be imported, or raises.
    """
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise RecipeError(one_line(f"{OPTION} takes the name of a module, such as mymodule, not {name!r}"))
        # Last, so that it shadows no installed module; as an absolute path, for workers, which start elsewhere
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise RecipeError(one_line(f"{OPTION} {name}: {type(error).__name__}: {error}")) from error
        if name not in _imported:
            _imported.append(name)


def import_installed() -> None:
    """Import the plugins of installed packages.

    Raises
    ------
    RecipeError
        A module cannot be imported, or raises.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            of = "" if point.dist is None else f" of {point.dist.name}"
            raise RecipeError(
                one_line(f"the plugin {point.name!r}{of} cannot be imported: {type(error).__name__}: {error}")
            ) from error


def take_from(arguments: Sequence[str]) -> list[str]:
    """Import the modules named anywhere on a command line, and installed plugins, before anything else is read.

    Parameters
    ----------
    arguments : sequence of str
        Of a command line.

    Returns
    -------
    list of str
        The others.

    Raises
    ------
    RecipeError
        A name is missing, or a module cannot be imported, or raises.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(OPTION, dest="names", action="append", default=[])
    try:
        given, rest = parser.parse_known_args(arguments)
    except ArgumentError as error:
        raise RecipeError(f"{OPTION} takes the name of a module, such as mymodule") from error
    import_installed()
    import_modules(given.names)
    return rest


def require(names: Sequence[str], path: object) -> None:
    """Refuse to read a run whose modules were not imported; none is imported because a file names it.

    Parameters
    ----------
    names : sequence of str
        `imported` at the time of the run.
    path : object
        Of the run, for the message.

    Raises
    ------
    RecipeError
        The message says what to add to the command line.
    """
    missing = [name for name in names if name not in _imported]
    if missing:
        options = " ".join(f"{OPTION} {name}" for name in missing)
        raise RecipeError(one_line(f"{path} was made with modules that were not imported: add {options}"))
