"""What a study shows, in sentences made from its statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from sttp_riemann.lab.studies.measures import SIZE, TIME, Measure
from sttp_riemann.lab.studies.page import Page, curve_points
from sttp_riemann.lab.studies.statistics import Difference, difference, fewest_pairs, interval, judge, matched, pair
from sttp_riemann.lab.studies.variant import ATTRIBUTES, Variant

Pair = tuple[Variant, Variant]


@dataclass(frozen=True)
class Comparison:
    """Two variants, or two curves of variants at the same sizes, compared by one measure.

    Attributes
    ----------
    ours, other : str
        Titles.
    measure : Measure
        By what.
    difference : Difference
        Ours less the other's, or of logarithms.
    span : tuple of float or None
        Range of sizes, where curves are compared.
    size : Measure
        Of what these are sizes.
    """

    ours: str
    other: str
    measure: Measure
    difference: Difference
    span: tuple[float, float] | None = None
    size: Measure = SIZE

    def __str__(self) -> str:
        found, measure = self.difference, self.measure
        where = ""
        if self.span is not None:
            name, low, high = self.size.name, *(f"{v:.3g}" if self.size.unit else self.size(v) for v in self.span)
            where = f" at {name} = {low}" if low == high else f" at equal {name} ({low} to {high}"
            where += self.size.unit if low == high else f"{self.size.unit})"
        subject = f"{self.ours} against {self.other}{where}"
        verdict = self._verdict()
        amount = f"{'ratio' if measure.log else 'difference'} {self._amount(found.mean)}{_points(measure)}"
        if not math.isnan(found.low):
            amount += f", 95 % interval {self._amount(found.low)} to {self._amount(found.high)}"
        elif found.pairs > 1:
            amount += " in every seed, so that there is no interval"
        rest = "" if found.too_few else f"; p = {found.p:.2g}"
        return f"{subject}: {verdict} ({amount}; {found.pairs} seed{'s' * (found.pairs > 1)}{rest})."

    def _verdict(self) -> str:
        found, measure = self.difference, self.measure
        margin = "" if found.margin is None else f"{found.margin:g}{_points(measure)}"
        if found.different:
            side = "higher" if found.mean > 0 else "lower"
            within = f", yet by less than the margin of {margin}" if found.equivalent else ""
            return f"{measure.name} is {side}{within}"
        if found.equivalent:
            return f"{measure.name} is the same within the margin of {margin}"
        if found.too_few:
            return f"too few seeds to tell whether {measure.name} differs"
        return f"no difference in {measure.name} is shown" + (f", nor that it is within {margin}" if margin else "")

    def _amount(self, value: float) -> str:
        if self.measure.log:
            return f"{math.exp(value):.3g}"
        told = f"{value:+{self.measure.form.lstrip(',')}}"
        # Rounding leaves no sign on nothing
        return told if any(digit in told for digit in "123456789") else told.replace("-", "+")


def _points(measure: Measure) -> str:
    return " points" if measure.unit == " %" else measure.unit


def comparisons(page: Page) -> list[Comparison]:
    """Make all comparisons of a page, which are one family.

    Parameters
    ----------
    page : Page
        The runs.

    Returns
    -------
    list of Comparison
        By the first measure, then by the others that are compared: path against path, value against value of a swept
        field, and each variant against the baseline; at several ranks curve against curve at the same Z.
    """
    further = page.kind.compared(page)
    kept = [page.primary, *(m for m in page.measures if m.column in further)]
    found = [c for measure in kept for c in (_of_curves if page.ranked else _of_variants)(page, measure)]
    # Curves that share no Z, and variants that share no seed
    found = [c for c in found if c.difference.pairs]
    judged = judge([c.difference for c in found])
    return [replace(c, difference=d) for c, d in zip(found, judged, strict=True)]


def _of_variants(page: Page, measure: Measure) -> list[Comparison]:
    titles = {variant: title for title, variant in page.variants.items()}
    values = {variant: page.values(title, measure) for variant, title in titles.items()}
    pairs = [*_paths([v for v in titles if v.path]), *_sweeps(list(titles))]
    if measure.column == page.primary.column:
        pairs += [(v, base) for v in titles if (base := baseline(page, v)) is not None]
    made = {(a, b): difference(pair(values[a], values[b]), measure.margin) for a, b in pairs}
    return [Comparison(titles[a], titles[b], measure, found) for (a, b), found in made.items()]


def baseline(page: Page, variant: Variant) -> Variant | None:
    """Give the variant without frames that another method's is compared with: at the same swept fields, and rate."""
    first = next((v for v in page.variants.values() if not v.path), None)
    if first is None or variant.method == first.method:
        return None
    same = [v for v in page.variants.values() if v.method == first.method]
    return max(same, key=lambda v: (_agree(variant, v), v.rate == variant.rate))


def _of_curves(page: Page, measure: Measure) -> list[Comparison]:
    curves = {v: points for v, points in curve_points(page, measure).items() if v.path}
    pairs = _paths(list(curves))
    if measure.column == page.primary.column:
        pairs += [*_sweeps(list(curves)), *_methods(list(curves))]
    made = {(a, b): matched(curves[a], curves[b]) for a, b in pairs}
    return [
        Comparison(page.curve(a), page.curve(b), measure, difference(gaps, measure.margin), (low, high), page.size)
        for (a, b), (gaps, low, high) in made.items()
    ]


def _paths(variants: Sequence[Variant]) -> list[Pair]:
    """Pair each variant on the first path with all others that differ in the path, and in fields of one path only."""
    groups: dict[Variant, list[Variant]] = {}
    for v in variants:
        groups.setdefault(replace(v, path="", swept=()), []).append(v)
    return [
        (ours, other)
        for group in groups.values()
        for ours in group
        for other in group
        if ours.path == group[0].path != other.path and _agree(ours, other)
    ]


def _agree(ours: Variant, other: Variant) -> bool:
    mine, theirs = dict(ours.swept), dict(other.swept)
    return all(mine[name] == theirs[name] for name in mine.keys() & theirs.keys())


def _methods(variants: Sequence[Variant]) -> list[Pair]:
    others = {v: replace(v, method="svdp") for v in variants if v.method == "sttp"}
    return [(v, other) for v, other in others.items() if other in variants]


def _sweeps(variants: Sequence[Variant]) -> list[Pair]:
    """Pair each value of a swept field with its first one."""
    pairs = []
    for attribute in (*(a for a in ATTRIBUTES if a != "rank"), "swept"):
        groups: dict[Any, list[Variant]] = {}
        for v in variants:
            groups.setdefault(replace(v, **cast("Any", {attribute: None})), []).append(v)
        pairs += [(v, group[0]) for group in groups.values() for v in group[1:]]
    return pairs


def findings(page: Page) -> list[str]:
    """Write sentences on what differs, how surely, and on the table.

    Parameters
    ----------
    page : Page
        The runs.

    Returns
    -------
    list of str
        Claims rest on `comparisons` only.
    """
    made = comparisons(page)
    told = [_range(page), *map(str, made), _resolution(made), *_times(page), *page.kind.facts(page), *_remarks(page)]
    return [sentence for sentence in told if sentence]


def _range(page: Page) -> str:
    measure = page.primary
    means = page.chosen.groupby("variant", sort=False)[measure.column].mean().dropna()
    low, high = (f"{measure.told(means[title])} ({title})" for title in (means.idxmin(), means.idxmax()))
    if low == high:
        return f"Mean {measure.name}: {low}."
    return f"Mean {measure.name} goes from {low} to {high}; the comparisons say what of that is more than chance."


def _resolution(made: Sequence[Comparison]) -> str:
    count = f"{len(made)} comparison{'s' * (len(made) > 1)}"
    few = f"{fewest_pairs(len(made))} seeds are the fewest that can tell a difference." if made else ""
    return f"The report makes {count}: with so many, {few}" if made else ""


def _times(page: Page) -> list[str]:
    """Say how long a step takes on one path relative to the other, described and not tested."""
    if TIME.column not in page.table:
        return []
    titles = {variant: title for title, variant in page.variants.items() if variant.path}
    told = []
    for ours, other in _paths(list(titles)):
        gaps = pair(page.values(titles[ours], TIME), page.values(titles[other], TIME))
        if gaps:
            mean, low, high = np.exp([float(np.mean(gaps)), *interval(gaps)])
            bounds = "" if math.isnan(low) else f" (95 % interval {low:.2f} to {high:.2f})"
            told.append(f"A step of {titles[ours]} takes {mean:.2f} times as long as one of {titles[other]}{bounds}.")
    return told


def _remarks(page: Page) -> list[str]:
    """Name what differs between methods and is in no title, and rows with fewer seeds."""
    told = []
    for name, other in page.followers.items():
        pairs = page.table[[other, name]].dropna().astype(str).drop_duplicates().itertuples(index=False)
        told.append(f"{name} changes together with {other}: {'; '.join(f'{b} for {a}' for a, b in pairs)}.")
    for attribute, name in {
        "optimizer": "optimizer",
        **({} if "rate" in page.choices else {"rate": "learning rate"}),
    }.items():
        values: dict[str, dict[str, None]] = {}
        for variant in page.variants.values():
            values.setdefault(f"{getattr(variant, attribute)}", {})[variant.title(())] = None
        if len(values) > 1:
            parts = [f"{value} of {', '.join(rows)}" for value, rows in values.items()]
            told.append(f"Rows differ in {name}: {'; '.join(parts)}.")
    seeds = page.chosen.groupby("variant", sort=False).size()
    fewer = [f"{title} ({count})" for title, count in seeds.items() if count < seeds.max()]
    if fewer:
        told.append(f"Of fewer seeds than the {seeds.max()} of other rows: {', '.join(fewer)}.")
    return told
