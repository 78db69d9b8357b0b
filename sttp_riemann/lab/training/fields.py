"""Fields of a recipe: range, meaning, scope, and checks of their values."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import types
from collections.abc import Callable, Collection, Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from jsonargparse.typing import extend_base_type
from typing_extensions import override

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import forms
from sttp_riemann.lab.training.plain import LARGEST_SEED, LARGEST_WHOLE, check_plain, shown

TaskName = Literal["classify", "regress", "gan"]
WORDS = {**forms.WORDS, bool: "true or false"}
FOLLOW = "follow"
"""Value of a generator's field that copies the network's."""
LONGEST_NAME = 255
"""Maximum bytes in a file name."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Allowed numbers or strings of a type, for use in `Annotated`.

    Attributes
    ----------
    what : str
        Description: "from 1 to 64".
    fits : callable
        Whether a value is allowed.
    """

    what: str
    fits: Callable[[Any], bool]

    def words(self, base: type) -> str:
        """Describe the allowed values, to continue after "must be"."""
        return f"{WORDS[base]} {self.what}"

    @cache  # noqa: B019 - of a few, that live as long as the program
    def restrict(self, base: type) -> Any:
        """The type of such values for jsonargparse."""

        def check(kind: type, value: Any) -> None:
            # True is not a number, and the rank 1.0 is a fraction
            other = isinstance(value, bool) or (base is int and isinstance(value, float))
            try:
                fits = not other and self.fits(base(value))
            except (ValueError, TypeError, OverflowError):
                fits = False
            if not fits:
                raise ValueError(f"Got value: {value}")

        return extend_base_type(f"{base.__name__} {self.what}", base, check)


class Row(Kind):
    """Names of a registry's rows, including rows that are added later.

    Parameters
    ----------
    what : str
        What the rows are.
    registry : mapping or collection
        The registry itself.
    """

    def __init__(self, what: str, registry: Collection[str]) -> None:
        super().__init__(f"that names {what}", registry.__contains__)
        object.__setattr__(self, "registry", registry)

    @override
    def words(self, base: type) -> str:
        return f"one of {', '.join(self.registry)}"  # type: ignore[attr-defined]


@cache
def _from(low: float, high: float) -> Kind:
    return Kind(f"from {low:,} to {high:,}", lambda value: low <= value <= high)


@cache
def _above(low: float, high: float) -> Kind:
    return Kind(f"above {low:,} and at most {high:,}", lambda value: low < value <= high)


def _is_path(text: str) -> bool:
    return "\0" not in text and all(len(part.encode()) <= LONGEST_NAME for part in Path(text).parts)


def _is_folder(text: str) -> bool:
    # It names the run's folder, and the partial file that a result is first written to
    return text not in ("", ".", "..") and "/" not in text and text.isprintable() and len(text.encode()) <= 200


FilePath = Annotated[str, Kind(f"that is a path with parts of at most {LONGEST_NAME} bytes", _is_path)]
FolderName = Annotated[str, Kind("that names one folder, in at most 200 bytes", _is_folder)]
# Far beyond any practical value, but within the range of numbers and memory
Steps = Annotated[int, _from(1, 10**9)]
Every = Annotated[int, _from(0, 10**9)]
Count = Annotated[int, _from(1, 10**6)]
Many = Annotated[int, _from(1, 10**7)]
Few = Annotated[int, _from(1, 10**4)]
Side = Annotated[int, _from(1, 4096)]
Channels = Annotated[int, _from(1, 64)]
Threads = Annotated[int, _from(1, 1024)]
Seed = Annotated[int, _from(0, LARGEST_SEED)]
Fraction = Annotated[float, Kind("from 0 to below 1", lambda value: 0 <= value < 1)]
Inside = Annotated[float, Kind("between 0 and 1", lambda value: 0 < value < 1)]
Share = Annotated[float, _from(0, 1)]
Part = Annotated[float, _above(0, 1)]
Weight = Annotated[float, _from(0, 10**9)]
Decay = Annotated[float, _from(0, 10**6)]
# Smaller ones leave only rounding errors
Mixup = Annotated[float, Kind("from 0.001 to 1,000, or 0", lambda value: value == 0 or 1e-3 <= value <= 1000)]
Temperature = Annotated[float, _from(1e-3, 1000)]
LearningRate = Annotated[float, _above(0, 1e30)]
Angle = Annotated[float, Kind("above 0 and below pi / 2", lambda value: 0 < value < math.pi / 2)]
Positive = Annotated[float, _above(0, 10**9)]
Rank = Annotated[int, _from(1, LARGEST_WHOLE)] | Part


def option(
    default: Any, help: str, scope: str = "", matters: bool = True, qualified: bool = False, follows: bool = False
) -> Any:
    """Describe a field of a recipe.

    Parameters
    ----------
    default : Any
        Default value; a list or dict is copied for each recipe.
    help : str
        Text for the command line's help and the documentation.
    scope : str
        What it applies to, one word or several: names of tasks, only those; ``low_rank``, only low-rank
        methods; ``direct`` and ``chart``, only frames that are parameters themselves, and only others; ``held``,
        low-rank methods and "sn" and "sr"; ``start``, training from scratch, not fine-tuning; ``run``, a single
        run: a comparison sets it itself; ``study``, a comparison, not its runs; ``page``, fields that runs of one
        report must share.
    matters : bool
        Whether a run with another value is a different run, so that it must not be resumed.
    qualified : bool
        Whether its name on the command line begins with its section's.
    follows : bool
        Whether the generator's may be "follow": the same as the network's.

    Returns
    -------
    dataclasses.Field
        With all this in its metadata.
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
        Its section, if any, and its name.
    hint : Any
        Its type, which may contain a `Kind`.
    default : Any
        Its value if the recipe does not set it.
    metadata : mapping
        From `option`.
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
    def tasks(self) -> list[str]:
        """The tasks that it is for; empty where it is for all."""
        return sorted(self.scope.intersection(get_args(TaskName)))

    def is_for(self, task: str) -> bool:
        """Whether it is for a task."""
        return not self.tasks or task in self.tasks

    @property
    def local(self) -> bool:
        """Whether it is a path on this machine that no result depends on."""
        return FilePath in (self.hint, *get_args(self.hint)) and not self.metadata["matters"]

    @cached_property
    def _convert(self) -> Callable[[str], str]:
        """From JSON to JSON of the field's type; each value is parsed once, as a study makes thousands of recipes."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--value", type=restricted(self.hint, dict))

        @lru_cache
        def convert(text: str) -> str:
            value = json.loads(text)
            if value is None and type(None) not in get_args(self.hint):
                raise ValueError("it is there")
            return json.dumps(parser.parse_object({"value": value}, defaults=False)["value"])

        return convert

    def check(self, value: Any) -> Any:
        """Convert a value to the field's type.

        Raises
        ------
        RecipeError
            The message names the field, its allowed values, and the given one.
        """
        check_plain(self.short, value)
        try:
            found = json.loads(self._convert(json.dumps(value)))
        # What a parser raises on text that it cannot handle, such as brackets nested 1,500 deep
        except Exception as error:
            raise RecipeError(f"{self.short} must be {words(self.hint)}, not {shown(value)}") from error
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
                # Not set by the single runs of a comparison
                metadata["scope"] = f"{metadata['scope'].replace('run', '')} {outer.metadata['scope']}"
                metadata["qualified"] = True
                hint = Literal["follow"] | hint if metadata["follows"] else hint
            yield Field((outer.name, inner.name), hint, getattr(section, inner.name), metadata)


def words(hint: Any) -> str:
    """Describe the values that a type allows.

    Parameters
    ----------
    hint : Any
        bool, int, float, str, dict, list[...], Literal[...], a union of these, or one of this module's.

    Returns
    -------
    str
        A phrase to continue after "must be".
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        told: str = inner[1].words(inner[0])
        return told
    if origin in (Union, types.UnionType):
        return ", or ".join(words(one) for one in inner if one is not type(None))
    if origin is Literal:
        return ("one of " if len(inner) > 1 else "") + ", ".join(map(str, inner))
    if origin is list:
        return f"a list, each {words(inner[0])}"
    more = f", each {words(inner[1])}" if inner and inner[1] is not Any else ""
    return WORDS[origin or hint] + more


def restricted(hint: Any, mapping: Any = dict[str, Any]) -> Any:
    """The type of allowed values for jsonargparse.

    Parameters
    ----------
    hint : Any
        As `words` takes it.
    mapping : type
        What is taken for ``dict[str, Any]``: by default one whose texts are read as YAML.

    Returns
    -------
    type
        What ``add_argument`` takes.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return inner[1].restrict(inner[0])
    if origin in (Union, types.UnionType):
        return Union[tuple(restricted(one, mapping) for one in inner)]  # noqa: UP007 - of as many as there are
    if origin is dict and inner[1] is Any:
        return mapping
    return origin[tuple(restricted(one, mapping) for one in inner)] if origin in (list, dict) else hint
