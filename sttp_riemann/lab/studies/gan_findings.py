"""What a GAN study shows, in words made from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sttp_riemann.lab.studies.curve_findings import Measure, curve_findings, fewer_seeds
from sttp_riemann.lab.studies.curves import is_ranked, points_of, times_of
from sttp_riemann.lab.studies.gan_results import MEASURES, GanRow, scaled
from sttp_riemann.lab.studies.variant import Variant, title
from sttp_riemann.lab.training.recipe import Recipe

# More than these are counted and not named
NAMED = 12


def gan_findings(recipe: Recipe, rows: Sequence[GanRow]) -> list[str]:
    """Sentences on quality, frames, spectra and collapse.

    Parameters
    ----------
    recipe : Recipe
        The study.
    rows : sequence of GanRow
        Its table.

    Returns
    -------
    list of str
        Only what the rows bear out; a difference within the spread of the seeds is called that.
    """
    name = next((n for n in ("fid", "kid", "is", "diversity") if n in rows[0].figures), "diversity")
    if is_ranked([row.label for row in rows]):
        label, _, digits, more = MEASURES[name]
        points = points_of(rows, scaled(name))
        compared = curve_findings(points, times_of(rows), Measure(label, "", digits, more))
    else:
        compared = [*_quality(rows, name), *_frames(rows, name)]
    sentences = [*compared, *_collapses(rows), _norms(rows), *_caution(recipe, rows)]
    sentences.append(fewer_seeds({row.title: len(row.runs) for row in rows}))
    return [sentence for sentence in sentences if sentence]


def _quality(rows: Sequence[GanRow], name: str) -> list[str]:
    label, scale, digits, more = MEASURES[name]
    ranked = sorted(rows, key=lambda row: row.figures[name][0], reverse=more)
    best, worst = ranked[0], ranked[-1]
    told = ", ".join(f"{row.title} {scale * row.figures[name][0]:.{digits}f}" for row in ranked)
    sentences = [f"{label} from best to worst: {told}."]
    if best is not worst:
        sentences.append(f"The distance of {best.title} to {worst.title} is {_certainty(best, worst, name)}.")
        second = ranked[1]
        if second is not worst:
            sentences.append(f"That of {best.title} to the next, {second.title}, is {_certainty(best, second, name)}.")
    return sentences


def _frames(rows: Sequence[GanRow], name: str) -> list[str]:
    label, scale, digits, _ = MEASURES[name]
    by_label = {row.label: row for row in rows}
    sentences = []
    for row in rows:
        other = by_label.get(row.label.replace("-riemannian", "-householder"))
        if other is None or other is row:
            continue
        gap = abs(row.figures[name][0] - other.figures[name][0])
        sentences.append(
            f"{row.title} and {other.title} differ in {label} by {scale * gap:.{digits}f}, "
            f"{_certainty(row, other, name)}; a step takes {row.step_ms:.1f} and {other.step_ms:.1f} ms."
        )
    return sentences


def _certainty(row: GanRow, other: GanRow, name: str) -> str:
    _, scale, digits, _ = MEASURES[name]
    (mean, two_sd), (other_mean, other_two_sd) = row.figures[name], other.figures[name]
    if math.isnan(two_sd) or math.isnan(other_two_sd):
        return "of which a single seed does not tell whether it is chance"
    spread = math.hypot(two_sd, other_two_sd)
    side = "within" if abs(mean - other_mean) <= spread else "outside"
    return (
        f"{side} the spread of {len(row.runs)} seeds (two standard deviations of the difference: "
        f"{scale * spread:.{digits}f})"
    )


def _collapses(rows: Sequence[GanRow]) -> list[str]:
    found = [(row, run) for row in rows for run in row.collapsed]
    if not found:
        return ["The detector finds no collapse in any run."]
    if len(found) > NAMED:
        runs = sum(len(row.runs) for row in rows)
        return [
            f"{len(found)} of {runs} runs collapsed: the table tells how many of each row, results.csv at which step "
            "and with which layer."
        ]
    sentences = [f"{row.title}, seed {run.seed}, collapsed: {run.collapse}." for row, run in found]
    sound = [row.title for row in rows if not row.collapsed]
    if len(sound) > NAMED:
        sentences.append(f"No run of the {len(sound)} other rows collapsed.")
    elif sound:
        sentences.append(f"No run of {', '.join(sound)} collapsed.")
    return sentences


def _norms(rows: Sequence[GanRow]) -> str:
    largest: dict[str, float] = {}
    for row in rows:
        name = title(Variant.of(row.label).curve)
        largest[name] = max(largest.get(name, 0.0), row.spectral_norm)
    told = ", ".join(f"{name} {value:.2f}" for name, value in largest.items())
    return f"The largest spectral norm of any discriminator layer at any evaluation: {told}."


def _caution(recipe: Recipe, rows: Sequence[GanRow]) -> list[str]:
    count, seeds = recipe.evaluation.metric_samples, len(rows[0].runs)
    if not recipe.evaluation.metrics:
        return []
    if recipe.evaluation.extractor == "digits":
        return [
            f"Metrics are of {count:,} samples seen through a small network trained on the digits, over {seeds} "
            "seed(s): they compare the rows of this table and nothing else."
        ]
    if (count, recipe.schedule.steps) != (50_000, 100_000) and recipe.study.paper:
        return [
            "The paper trains 100,000 steps and measures 50,000 samples; "
            f"here it was {recipe.schedule.steps:,} and {count:,}."
        ]
    return []
