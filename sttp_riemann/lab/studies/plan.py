"""Which runs a study is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, get_args

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.recipes.reading import load
from sttp_riemann.lab.studies.variant import Variant, bearing
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.lab.training.recipe import FIELDS, Recipe
from sttp_riemann.lab.training.sections import LOW_RANK, Method

# Swept by fields of their own
ELSEWHERE = {"method": "methods", "frames": "paths", "seed": "seeds"}
LISTS = {field for field, about in FIELDS.items() if "study" in about.scope}
MOST_RUNS = 100_000

Sweep = Mapping[str, Sequence[Any]]


def plan(recipe: Recipe, sweep: Sweep | None = None) -> list[Recipe]:
    """List the runs of a study: in each seed every low-rank method on every path at every rank, the others once.

    Variants take turns, so that a machine that is slower for a while slows all of them.

    Parameters
    ----------
    recipe : Recipe
        What to compare.
    sweep : mapping, optional
        Values of further fields, all of which are combined.

    Returns
    -------
    list of Recipe
        One a run, seed after seed; of those that differ only in what has no effect on them, the first.

    Raises
    ------
    RecipeError
        A field cannot be swept, or a combination is not valid.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.plan import plan
    >>> from sttp_riemann.lab.training.recipe import FIELDS, Recipe
    >>> runs = plan(Recipe().changed(methods=["dense", "sttp"], seeds=[0]), {"init": ["identity", "orthogonal"]})
    >>> [(n.method, n.frames, n.init) for n in (run.network for run in runs[1:])]  # doctest: +NORMALIZE_WHITESPACE
    [('sttp', 'riemannian', 'identity'), ('sttp', 'riemannian', 'orthogonal'),
     ('sttp', 'householder', 'identity'), ('sttp', 'householder', 'orthogonal')]
    """
    sweep = sweep or {}
    for field, values in sweep.items():
        if field in ELSEWHERE:
            raise RecipeError(f"sweep takes no {field}: say which with --{ELSEWHERE[field]}")
        if field in FIELDS and field not in recipe.what_matters():
            raise RecipeError(f"sweep takes no {field}: it changes nothing of a run")
        if not values:
            raise RecipeError(f"sweep has no value of {field}")
    combinations = [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]
    variants = [variant for method in recipe.study.methods for variant in _variants(recipe, method)]
    own = _Own(recipe)
    if len(recipe.study.seeds) * len(combinations) * len(variants) > MOST_RUNS:
        raise RecipeError(f"a study may have {MOST_RUNS:,} runs: sweep fewer values")
    runs = [
        own.change(recipe.for_run(method, path, seed, letter, rank)).changed(**changes)
        for seed in recipe.study.seeds
        for method, letter, path, rank in variants
        for changes in combinations
    ]
    own.check()
    return list({repr(sorted(bearing(run).items())): run for run in reversed(runs)}.values())[::-1]


class _Own:
    """The fields of single variants that differ from the recipe's."""

    def __init__(self, recipe: Recipe) -> None:
        self.fields, self.methods, self.names = recipe.study.variants, recipe.study.methods, dict[str, None]()
        for name, changes in self.fields.items():
            for field in (field for field in changes if field in ELSEWHERE or field in LISTS):
                raise RecipeError(f"variants: {shown(name)} cannot have {field} of its own: the study says it of all")

    def change(self, run: Recipe) -> Recipe:
        """Give a run the fields of its variant."""
        names = Variant.of(run).paper_names
        self.names |= dict.fromkeys(names)
        found = [name for name in names if name in self.fields]
        return run.changed(**self.fields[found[0]]) if found else run

    def check(self) -> None:
        """Refuse a name that no variant has, at whichever rank, of the methods that are compared."""
        for name in self.fields:
            bare = name.partition(" r=")[0]
            method = bare.removeprefix("G ").partition("-")[0].lower()
            if bare not in self.names and not (method in get_args(Method) and method not in self.methods):
                there = ", ".join([*self.names][:8])
                raise RecipeError(f"variants: no run of the study is {shown(name)}; there are {there}")


def _variants(recipe: Recipe, method: str) -> Iterable[tuple[Any, ...]]:
    study = recipe.study
    if method not in LOW_RANK:
        # It has no frames, spectrum or rank, so one path stands for all
        return [(method, None, study.paths[0], None)]
    letters: list[str | None] = [*study.spectra]
    return product([method], letters or [None], study.paths, study.ranks.get(method, [None]))


def read_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read a sweep from the command line, such as ``lr=1e-3,3e-3``.

    Raises
    ------
    RecipeError
        A text is not a field with its values, or names one twice.

    Examples
    --------
    >>> from sttp_riemann.lab.studies.plan import read_sweep
    >>> read_sweep(["rank=4,8", "init=identity,orthogonal"])
    {'rank': [4, 8], 'init': ['identity', 'orthogonal']}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not field.isidentifier() or field in found:
            raise RecipeError(f"--sweep takes each field once, with its values, as in lr=1e-3,3e-3; not {text[:80]!r}")
        try:
            found[field] = load(f"[{values}]")
        except ValueError as error:
            raise RecipeError(f"--sweep {field}: the list of values {error}") from error
    return found
