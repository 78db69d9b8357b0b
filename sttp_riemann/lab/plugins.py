"""User modules that add rows to registries, or hold what ``module:attribute`` names; and installed plugins."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from sttp_riemann.errors import RecipeError, one_line

GROUP = "sttp_riemann.plugins"
"""Entry points of installed packages whose modules are imported before a recipe is read."""
OPTION = "--import"
PREFIXES = ("torchvision", "timm", "folder", "arrays")
"""What stands before a colon in a name and is no module of the user's."""
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


def is_path(name: object) -> bool:
    """Whether a name is ``module:attribute``, of the user's own."""
    if not isinstance(name, str):
        return False
    module, _, attribute = name.partition(":")
    return attribute.isidentifier() and module not in PREFIXES and all(map(str.isidentifier, module.split(".")))


def import_named(names: Sequence[object]) -> None:
    """Import the modules of those names that are ``module:attribute``.

    Parameters
    ----------
    names : sequence
        From a command line or from the arguments of a call, never from a file.

    Raises
    ------
    RecipeError
        One cannot be imported, or raises.
    """
    import_modules([str(name).partition(":")[0] for name in names if is_path(name)])


def load(path: str) -> Callable[..., Any]:
    """Give the class or function that ``module:attribute`` names.

    Parameters
    ----------
    path : str
        It may come from a file: only what the user's own modules define is given.

    Returns
    -------
    callable
        From a module that was imported by its name before.

    Raises
    ------
    RecipeError
        The module was not imported, or does not define such a class or function.
    """
    module, _, name = path.partition(":")
    if module not in _imported or module not in sys.modules:
        raise RecipeError(
            f"{module} was not imported, and the word of a file does not import it: add {OPTION} {module}"
        )
    there = vars(sys.modules[module])
    if name not in there:
        near = get_close_matches(name, there, n=1)
        raise RecipeError(f"module {module} has no {name}{f', did you mean {near[0]}?' if near else ''}")
    found = there[name]
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        raise RecipeError(f"{path} is no class or function")
    # Else a file could call whatever the module happens to import, such as subprocess.run
    if found.__module__.partition(".")[0] != module.partition(".")[0]:
        raise RecipeError(f"{module} only imports {name} from {found.__module__}: define what {module} gives in it")
    return found


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
