"""What a field of a recipe is: its range, its meaning, what it applies to, how its values are checked."""

from __future__ import annotations

import copy
import dataclasses
import operator
import types
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from jsonargparse.typing import extend_base_type

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.plain import LARGEST_SEED, LARGEST_WHOLE, check_plain, shown

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
FOLLOW = "follow"
"""Value of a generator's field that is to be the network's."""
LONGEST_NAME = 255
"""Bytes that a file system lets one name of a path have."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number; in an `Annotated` type.

    Attributes
    ----------
    least, above, most, below : float or None
        Inclusive, exclusive, inclusive and exclusive; at most one of each side.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def words(self, base: type) -> str:
        """Say what is allowed: "a whole number from 1 to 64"."""
        low = f"from {self.least:,}" if self.least is not None else f"above {self.above:,}"
        if self.below is not None:
            return f"{WORDS[base]} {low} to below {self.below:,}"
        return f"{WORDS[base]} {low} {'to' if self.least is not None else 'and at most'} {self.most:,}"

    def restrict(self, base: type) -> Any:
        """Give jsonargparse's type of such numbers."""

        def check(kind: type, value: Any) -> None:
            # The rank 1.0 is a fraction
            if isinstance(value, bool) or (base is int and isinstance(value, float)):
                raise ValueError(f"Got value: {value}")
            _check_between(base(value), self)

        return extend_base_type(f"{base.__name__}_{'_'.join(map(str, vars(self).values()))}", base, check)


def _check_between(value: float, ends: Range) -> None:
    pairs = (ends.least, operator.ge), (ends.above, operator.gt), (ends.most, operator.le), (ends.below, operator.lt)
    if not all(end is None or holds(value, end) for end, holds in pairs):
        raise ValueError(f"Got value: {value}")


@dataclasses.dataclass(frozen=True)
class Text:
    """A kind of text; in an `Annotated` type.

    Attributes
    ----------
    what : str
        What is allowed.
    fits : callable
        Whether a text is.
    """

    what: str
    fits: Callable[[str], bool]

    def words(self, base: type) -> str:
        """Say what is allowed."""
        return self.what

    def restrict(self, base: type) -> Any:
        """Give jsonargparse's type of such text."""

        def check(kind: type, value: Any) -> None:
            if not (isinstance(value, str) and self.fits(value)):
                raise ValueError(f"Got value: {value}")

        return extend_base_type(self.fits.__name__.strip("_"), base, check)


def _a_path(text: str) -> bool:
    return "\0" not in text and all(len(part.encode()) <= LONGEST_NAME for part in Path(text).parts)


def _a_folder(text: str) -> bool:
    # A run's folder is named after it, and so is the partial file that a result is first written to
    return text not in ("", ".", "..") and "/" not in text and text.isprintable() and len(text.encode()) <= 200


FilePath = Annotated[str, Text(f"a path whose parts have at most {LONGEST_NAME} bytes", _a_path)]
FolderName = Annotated[str, Text("the name of a folder of at most 200 bytes", _a_folder)]
# Far beyond what anyone trains with, and within what the machine's numbers and memory can hold
Steps = Annotated[int, Range(least=1, most=10**9)]
Every = Annotated[int, Range(least=0, most=10**9)]
Count = Annotated[int, Range(least=1, most=10**6)]
Many = Annotated[int, Range(least=1, most=10**7)]
Fraction = Annotated[float, Range(least=0, below=1)]
Inside = Annotated[float, Range(above=0, below=1)]
Share = Annotated[float, Range(least=0, most=1)]
Weight = Annotated[float, Range(least=0, most=10**9)]
Budget = Annotated[float, Range(above=0, most=1)]
Rank = Annotated[int, Range(least=1, most=LARGEST_WHOLE)] | Budget
Side = Annotated[int, Range(least=1, most=4096)]
Channels = Annotated[int, Range(least=1, most=64)]
Few = Annotated[int, Range(least=1, most=10**4)]
Threads = Annotated[int, Range(least=1, most=1024)]
Mixup = Annotated[float, Range(least=0, most=1000)]
Temperature = Annotated[float, Range(least=1e-3, most=1000)]
LearningRate = Annotated[float, Range(above=0, most=1e30)]
Decay = Annotated[float, Range(least=0, most=10**6)]
Clip = Annotated[float, Range(above=0, most=10**9)]
Seed = Annotated[int, Range(least=0, most=LARGEST_SEED)]


def option(
    default: Any, help: str, scope: str = "", matters: bool = True, qualified: bool = False, follows: bool = False
) -> Any:
    """Describe a field of a recipe.

    Parameters
    ----------
    default : Any
        Its value where the recipe is silent; a list or dict is copied for each recipe.
    help : str
        What the command line's help and the documentation say of it.
    scope : str
        What it applies to, one word or several: ``gan`` or ``classify``, the only task that it is for; ``low_rank``,
        methods that alone it makes a difference to; ``held``, the same and "sn" and "sr"; ``start``, training from
        the start, and not the fine-tuning of what is there; ``run``, one run of a comparison, which says it itself;
        ``study``, a comparison, and none of its runs; ``page``, all runs that may share a report.
    matters : bool
        Whether a run begun with another value is another run, so that it must not be gone on with.
    qualified : bool
        Whether its name on the command line carries that of its section.
    follows : bool
        Whether the generator's may be "follow": what the network's is.

    Returns
    -------
    dataclasses.Field
        With all that in its metadata.
    """
    about = {"scope": scope, "matters": matters, "qualified": qualified, "follows": follows}
    metadata = {"help": help, **about}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a recipe.

    Attributes
    ----------
    path : tuple of str
        Section, where it is in one, and name.
    hint : Any
        Its type, `Range` and `Text` among it.
    default : Any
        Its value where the recipe is silent.
    metadata : mapping
        What `option` says of it.
    """

    path: tuple[str, ...]
    hint: Any
    default: Any
    metadata: Any

    @property
    def short(self) -> str:
        """Its name on the command line."""
        section, name = self.path[0], self.path[-1]
        if len(self.path) == 1 or not self.metadata["qualified"]:
            return name
        return section if name == "name" else f"{section}_{name}"

    @property
    def scope(self) -> frozenset[str]:
        """What it applies to; see `option`."""
        return frozenset(self.metadata["scope"].split())

    @property
    def local(self) -> bool:
        """Whether it is a place on this machine, and nothing that a run depends on."""
        return FilePath in (self.hint, *get_args(self.hint)) and not self.metadata["matters"]

    @property
    def words(self) -> str:
        """What values it may have."""
        return _words(self.hint)

    @cached_property
    def kind(self) -> Any:
        """The type by which jsonargparse checks it."""
        return _restricted(self.hint)

    def add_to(self, parser: Any, name: str, **more: Any) -> None:
        """Let it be given on a command line.

        Parameters
        ----------
        parser : ArgumentParser or group of one
            Of the command.
        name : str
            With the two dashes of an option.
        **more : Any
            For ``add_argument``.
        """
        many = get_origin(self.hint) is list
        kind, count = (get_args(self.kind)[0], {"nargs": "+"}) if many else (self.kind, {})
        parser.add_argument(name, type=kind, help=self.metadata["help"], **count, **more)

    @cached_property
    def _parser(self) -> ArgumentParser:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--value", type=self.kind)
        return parser

    def check(self, value: Any) -> Any:
        """Give a value as the field's type wants it.

        Raises
        ------
        RecipeError
            The message names the field, what it may be, and what it is.
        """
        check_plain(self.short, value)
        parser = self._parser
        try:
            if value is None and type(None) not in get_args(self.hint):
                raise ValueError
            found = _plain(parser.parse_object({"value": copy.deepcopy(value)}, defaults=False)["value"])
        # What a parser makes of text that it has no answer to, such as brackets nested 1,500 deep
        except Exception as error:
            raise RecipeError(f"{self.short} must be {self.words}, not {shown(value)}") from error
        check_plain(self.short, found)
        return found


def fields_of(cls: type) -> Iterator[Field]:
    """List the fields of a recipe: its own and those of its sections.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are `option`, or dataclasses of such.

    Yields
    ------
    Field
        In the order of the definition.
    """
    hints = get_type_hints(cls, include_extras=True)
    for outer in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(hints[outer.name]):
            yield Field((outer.name,), hints[outer.name], outer.default, outer.metadata)
            continue
        section = outer.default_factory()  # type: ignore[misc, operator]
        inner_hints = get_type_hints(hints[outer.name], include_extras=True)
        for inner in dataclasses.fields(section):
            metadata, hint = dict(inner.metadata), inner_hints[inner.name]
            if outer.metadata:
                # It is not a run of a comparison that says them
                metadata["scope"] = f"{metadata['scope'].replace('run', '')} {outer.metadata['scope']}"
                metadata["qualified"] = True
                hint = Literal["follow"] | hint if metadata["follows"] else hint
            yield Field((outer.name, inner.name), hint, getattr(section, inner.name), metadata)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return str(inner[1].words(inner[0]))
    if origin in (Union, types.UnionType):
        return ", or ".join(_words(one) for one in inner if one is not type(None))
    if origin is Literal:
        return ("one of " if len(inner) > 1 else "") + ", ".join(map(str, inner))
    if origin is list:
        return f"a list, each {_words(inner[0])}"
    more = f", each {_words(inner[1])}" if inner and inner[1] is not Any else ""
    return WORDS[origin or hint] + more


@cache
def _restricted(hint: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return inner[1].restrict(inner[0])
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_restricted, inner))]  # noqa: UP007 - of as many as there are
    if origin is dict and inner[1] is Any:
        # Texts in a mapping stay what they are
        return dict
    return origin[tuple(map(_restricted, inner))] if origin in (list, dict) else hint


def _plain(value: Any) -> Any:
    """Give numbers and text without jsonargparse's types."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
