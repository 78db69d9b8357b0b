"""The tidy table of a study: a row a run, and what is chosen and compared of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.measures import GENERATOR_SIZE, OF_CLASSES, SIZES, Measure, Score
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.runs import Result, recipe_of
from sttp_riemann.lab.studies.statistics import interval
from sttp_riemann.lab.studies.variant import Variant, as_columns, differing, swept_fields
from sttp_riemann.lab.training.recipe import FIELDS
from sttp_riemann.lab.training.sections import require

if TYPE_CHECKING:
    from sttp_riemann.lab.studies.looks import Drawing

DEFAULT = Reading()
# Z is relative to one dense network, and metrics are compared only where they are the same
SHARED = tuple(name for name, field in FIELDS.items() if "page" in field.scope)


@dataclass(frozen=True)
class Kind:
    """What studies of one kind measure, draw and report.

    Attributes
    ----------
    measures : tuple of Measure
        Columns of the table, those first that are of the task; the first that runs have is what they are compared by.
    columns : callable
        From a run's result and a reading to the values of its columns.
    figures : tuple of callable
        From a page to a drawing, or to None where there is nothing to draw.
    facts : callable
        From a page to further sentences about its table.
    notes : str
        How to read the table, in Markdown.
    compared : callable
        From a page to the columns of further measures that are compared, where runs have them.
    score : Score
        What choices are made by, and steps are counted to, where there are labels.
    """

    measures: tuple[Measure, ...]
    columns: Callable[[Result, Reading], Mapping[str, Any]]
    figures: tuple[Callable[[Page], Drawing | None], ...]
    facts: Callable[[Page], list[str]]
    notes: str
    compared: Callable[[Page], Collection[str]] = lambda page: ()
    score: Score = OF_CLASSES


@dataclass(frozen=True)
class Page:
    """Finished runs that are reported together.

    Attributes
    ----------
    kind : Kind
        What is measured of them.
    table : pandas.DataFrame
        A row a run, in the units of readers: its variant, seed and measures, and whether its learning rate and other
        `choices` are the ``chosen`` ones.
    results : list of Result
        The same runs, in the same order.
    variants : mapping
        By title, in the order of the table; without seed and what is chosen.
    choices : tuple of str
        Columns whose values are chosen by held-out examples: the learning rate, and fields that the reader names.
    told : frozenset of str
        Attributes that titles show; see `Variant.title`.
    reading : Reading
        How the runs are read.
    followers : mapping
        Swept fields whose value goes with that of another one in all runs, which titles show instead.
    """

    kind: Kind
    table: pd.DataFrame
    results: list[Result]
    variants: Mapping[str, Variant]
    choices: tuple[str, ...] = ()
    told: frozenset[str] = frozenset()
    reading: Reading = DEFAULT
    followers: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> pd.DataFrame:
        """Rows of the runs at the chosen rates."""
        return self.table[self.table.chosen]

    @property
    def tuned(self) -> bool:
        """Whether learning rates or other fields are chosen."""
        return bool(self.choices)

    @property
    def measures(self) -> list[Measure]:
        """Measures that runs have, the first with the margin of the reading."""
        found = [m for m in self.kind.measures if m.column in self.table and self.table[m.column].notna().any()]
        found = [replace(m, name=m.name.format(target=self.target)) if "{" in m.name else m for m in found]
        return [replace(found[0], margin=self.reading.margin or found[0].margin), *found[1:]]

    @property
    def target(self) -> str:
        """What steps are counted to."""
        score = self.kind.score
        return score.target.format(score.tested.scale * self.reading.target)

    @property
    def primary(self) -> Measure:
        """What runs are compared by."""
        return self.measures[0]

    @property
    def size(self) -> Measure:
        """Size of the network that is compared."""
        return GENERATOR_SIZE if any(variant.player for variant in self.variants.values()) else SIZES[self.reading.size]

    @property
    def curves(self) -> dict[Variant, list[str]]:
        """Titles of the variants that make a curve over ranks, by the variant without its rank."""
        found: dict[Variant, list[str]] = {}
        for title, variant in self.variants.items():
            found.setdefault(replace(variant, rank=""), []).append(title)
        return found

    @property
    def ranked(self) -> bool:
        """Whether several ranks make a curve."""
        return len(self.curves) < len(self.variants)

    def curve(self, variant: Variant) -> str:
        """Title of the curve that a variant is on."""
        return variant.title(self.told - {"rank"})

    def rows(self, title: str) -> pd.DataFrame:
        """Rows of a variant's runs with all that is chosen."""
        return self.chosen[self.chosen.variant == title]

    def at_all_rates(self, title: str) -> pd.DataFrame:
        """Rows of a variant's runs at every rate, with all else that is chosen."""
        own, first = self.table[self.table.variant == title], self.rows(title).iloc[0]
        for name in (name for name in self.choices if name != "rate"):
            # As text, for a field that a variant lacks has no value
            own = own[own[name].map(repr) == repr(first[name])]
        return own

    def first(self, title: str) -> Result:
        """Give a variant's run of the first seed."""
        return self.results[int(self.rows(title).index[0])]

    def values(self, title: str, measure: Measure) -> dict[Any, float]:
        """Values of a variant by seed, without missing ones; their logarithms where ratios are compared."""
        rows = self.rows(title)
        values = {seed: float(v) for seed, v in zip(rows.seed, rows[measure.column], strict=True) if not math.isnan(v)}
        if not measure.log:
            return values
        return {seed: math.log(value) for seed, value in values.items() if value > 0}

    def for_files(self) -> pd.DataFrame:
        """Table in the units that metrics have: fractions where readers see percent."""
        found = pd.DataFrame(_scaled(self.kind, dict(self.table.items()), -1))
        return found if self.tuned else found.drop(columns="chosen")

    def summary(self) -> pd.DataFrame:
        """Table for readers: a row a variant, each cell as text."""
        lines = []
        for title in self.variants:
            rows = self.rows(title)
            line = {"method": title, "seeds": str(len(rows))}
            for name in self.choices:
                line[f"chosen {'lr' if name == 'rate' else name}"] = _value(rows[name].iloc[0])
            for m in self.measures:
                line[m.head] = _cell(m, rows[m.column])
                paper = rows.get(f"paper_{m.column}")
                if paper is not None:
                    line[f"paper's {m.name}"] = m(paper.iloc[0])
            lines.append(line)
        return pd.DataFrame(lines)


def _cell(measure: Measure, values: pd.Series) -> str:
    values = values.dropna()
    if not len(values):
        return "–"
    if measure.pool == "count":
        return f"{values.sum():.0f} of {len(values)}"
    if measure.pool != "mean":
        return measure(float(values.iloc[0] if measure.pool == "first" else values.agg(measure.pool)))
    low, high = interval(list(values))
    half = "" if math.isnan(low) else f" ± {measure((high - low) / 2)}"
    return measure(float(values.mean())) + half


def _value(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def build_page(results: Sequence[Result], kind: Kind, reading: Reading = DEFAULT) -> Page:
    """Make the table of finished runs.

    Parameters
    ----------
    results : sequence of Result
        In any order, no run twice.
    kind : Kind
        What to measure.
    reading : Reading
        How to read them.

    Returns
    -------
    Page

    Raises
    ------
    RecipeError
        Runs cannot be compared, the message names two of them; or a field cannot be chosen.
    """
    check_shared(results)
    recipes = [recipe_of(result) for result in results]
    swept = [name for name in swept_fields(recipes) if name not in SHARED]
    variants = [Variant.of(recipe, swept) for recipe in recipes]
    order = sorted(range(len(results)), key=lambda i: variants[i].place)
    results, variants = [results[i] for i in order], [variants[i] for i in order]
    columns = [kind.columns(result, reading) for result in results]
    shown = differing(variants) | ({"spectrum"} if recipes[0].task == "gan" else set())
    measured_apart = all(kind.score.held.column in row for row in columns)
    for name in reading.choose:
        require(name in swept, f"choose takes a field in which runs differ, not {name!r}: {', '.join(swept) or 'none'}")
        require(measured_apart, f"{name} is chosen by held-out examples: set validation to a share such as 0.2")
    of_generators = any(variant.player for variant in variants)
    require(not of_generators or reading.size == "ratio", f"size {reading.size} is of discriminators: leave it out")
    choices = (*(["rate"] if "rate" in shown and measured_apart else []), *reading.choose)
    shown -= {*choices}
    followers = _followers([name for name in swept if name not in choices], variants)
    titles: dict[str, Variant] = {}
    rows: list[dict[str, Any]] = []
    for result, full, measured in zip(results, variants, columns, strict=True):
        hidden = {*choices, *followers}
        variant = replace(full, swept=tuple((name, value) for name, value in full.swept if name not in hidden))
        title = variant.title(shown)
        titles.setdefault(title, replace(variant, seed=0, rate=0.0 if "rate" in choices else variant.rate))
        place = "/".join(Path(result["folder"]).parts[-2:])
        figures = {**measured, **_paper(result, variant, kind)}
        row = {"variant": title, **as_columns(full), "chosen": True, **_scaled(kind, figures, 1)}
        rows.append({**row, "run": place})
    table = pd.DataFrame(rows)
    if choices:
        _choose(table, [*choices], kind.score)
    return Page(kind, table, list(results), titles, choices, frozenset(shown), reading, followers)


def _followers(names: Sequence[str], variants: Sequence[Variant]) -> dict[str, str]:
    """Give the fields whose value is that of an earlier one under another name, in all runs, with the earlier one."""
    values = {name: [dict(variant.swept).get(name) for variant in variants] for name in names}
    found: dict[str, str] = {}
    for i, name in enumerate(names):
        for other in names[:i]:
            pairs = {*zip(values[other], values[name], strict=True)}
            if other not in found and len(pairs) == len({*values[other]}) == len({*values[name]}):
                found.setdefault(name, other)
    return found


def _scaled(kind: Kind, figures: Mapping[Any, Any], power: int) -> dict[Any, Any]:
    """Give columns in the units of readers, or with a power of -1 in those of files."""
    scales = {name: m.scale**power for m in kind.measures for name in (m.column, f"paper_{m.column}") if m.scale != 1}
    return {name: value if name not in scales else scales[name] * value for name, value in figures.items()}


def _choose(table: pd.DataFrame, choices: list[str], score: Score) -> None:
    """Mark each variant's runs with the best mean on held-out examples, of the choices that the most seeds have.

    A seed's mean over learning rates is of all rates that its variant was run at, with all else as it is.
    """
    # A field that a variant lacks has no value
    given = table.assign(**{name: table[name].map(repr) for name in choices})
    # One rate that does not learn would be all of the mean: R^2 has no lower bound
    given["reached"] = given[score.tested.column].clip(lower=0)
    cells = given.groupby(["variant", *choices])[score.held.column].agg(["count", "mean"]).reset_index()
    best = cells.sort_values(["count", "mean"], kind="stable").groupby("variant").last()
    table["chosen"] = (given[choices] == best.loc[given.variant, choices].to_numpy()).all(axis=1)
    if "rate" in choices:
        rates = given.groupby("variant").rate.transform("nunique")
        over = given.groupby(["variant", *(name for name in choices if name != "rate"), "seed"])
        table["mean_over_rates"] = over.reached.transform("mean").where(over.rate.transform("nunique") == rates)


def _paper(result: Result, variant: Variant, kind: Kind) -> dict[str, Any]:
    """Give the paper's figures of a run's variant."""
    paper = result["recipe"]["paper"]
    figures: Mapping[str, float] = next((paper[name] for name in variant.paper_names if name in paper), {})
    names = [m.column for m in kind.measures if any(m.column in of for of in paper.values())]
    return {f"paper_{name}": figures.get(name, math.nan) for name in names}


def check_shared(results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse runs that cannot share a page.

    Raises
    ------
    RecipeError
        The message names two of them and the field.
    """
    first, *others = results
    ours = recipe_of(first).flat()
    for result in others:
        theirs = recipe_of(result).flat()
        for name in SHARED:
            if ours[name] != theirs[name]:
                raise RecipeError(
                    f"{first['folder']} and {result['folder']} cannot share a page: "
                    f"{name} is {ours[name]!r} and {theirs[name]!r}; report them apart"
                )


def curve_points(page: Page, measure: Measure) -> dict[Variant, dict[Any, list[tuple[float, float]]]]:
    """Give for each curve of `Page.curves`, and each seed, the points (size, value) of its ranks."""
    found: dict[Variant, dict[Any, list[tuple[float, float]]]] = {}
    for curve, titles in page.curves.items():
        of = found[curve] = {}
        for title in titles:
            sizes = page.values(title, page.size)
            for seed, value in page.values(title, measure).items():
                of.setdefault(seed, []).append((sizes[seed], value))
    return found
