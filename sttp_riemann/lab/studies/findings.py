"""What a table shows, in words made from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sttp_riemann.lab.studies.curve_findings import Measure, curve_findings, fewer_seeds
from sttp_riemann.lab.studies.curves import is_ranked, points_of, times_of
from sttp_riemann.lab.studies.results import Row
from sttp_riemann.lab.studies.variant import Variant, title

# A layer whose largest singular value exceeds 1 by less is 1-Lipschitz up to rounding
ROUNDING = 1e-4


def findings(rows: Sequence[Row]) -> list[str]:
    """Sentences on accuracy, size, speed, orthogonality and singular values.

    Parameters
    ----------
    rows : sequence of Row
        The table.

    Returns
    -------
    list of str
        Only what the rows bear out; a comparison within the spread of the seeds is called that.
    """
    if is_ranked([row.label for row in rows]):
        points = points_of(rows, lambda row: (row.accuracy, row.accuracy_two_sd))
        compared = curve_findings(points, times_of(rows), Measure("test accuracy", " %", 2, more=True))
    else:
        compared = [*_against_dense(rows), *_paths(rows)]
    sentences = [_accuracy(rows), _size(rows), *compared, _orthogonality(rows), _singular_values(rows)]
    sentences.append(fewer_seeds({row.title: row.seeds for row in rows}))
    return [sentence for sentence in sentences if sentence]


def _accuracy(rows: Sequence[Row]) -> str:
    best, worst = max(rows, key=lambda r: r.accuracy), min(rows, key=lambda r: r.accuracy)
    if best is worst:
        return f"{best.title} reaches {best.accuracy:.2f} % test accuracy."
    lowest = min(rows, key=lambda r: r.accuracy_lowest)
    span = f"Test accuracy lies between {worst.accuracy:.2f} % ({worst.title}) and {best.accuracy:.2f} % ({best.title})"
    return f"{span}; the worst single run has {lowest.accuracy_lowest:.2f} % ({lowest.title})."


def _size(rows: Sequence[Row]) -> str:
    smallest = min(rows, key=lambda r: r.ratio)
    if smallest.method == "dense":
        return ""
    return (
        f"{smallest.title} has the fewest degrees of freedom: {smallest.dof:,} for the weights, "
        f"which makes the whole network {smallest.ratio:.1f} % of the dense one's size."
    )


def _against_dense(rows: Sequence[Row]) -> list[str]:
    dense = next((r for r in rows if r.method == "dense"), None)
    if dense is None:
        return []
    sentences = []
    for row in rows:
        if row is dense:
            continue
        gap = row.accuracy - dense.accuracy
        sentences.append(
            f"{row.title} is {abs(gap):.2f} points {'above' if gap >= 0 else 'below'} dense{_certainty(row, dense)}, "
            f"at {row.step_ms / dense.step_ms:.2f} times its time a step."
        )
    return sentences


def _certainty(row: Row, other: Row) -> str:
    if math.isnan(row.accuracy_two_sd) or math.isnan(other.accuracy_two_sd):
        return " in a single seed, which tells nothing of the spread"
    spread = math.hypot(row.accuracy_two_sd, other.accuracy_two_sd)
    if abs(row.accuracy - other.accuracy) <= spread:
        return f", within the spread of {row.seeds} seeds (two standard deviations of the difference: {spread:.2f})"
    return f", outside the spread of {row.seeds} seeds (two standard deviations of the difference: {spread:.2f})"


def _paths(rows: Sequence[Row]) -> list[str]:
    sentences = []
    for method in ("svdp", "sttp"):
        pair = {r.frames: r for r in rows if r.method == method}
        if len(pair) < 2:
            continue
        ours, other = pair["riemannian"], pair["householder"]
        faster, slower = sorted((ours, other), key=lambda r: r.step_ms)
        sentences.append(
            f"{method.upper()}: a step on {faster.frames} frames takes {faster.step_ms:.1f} ms and on {slower.frames} "
            f"frames {slower.step_ms:.1f} ms ({slower.step_ms / faster.step_ms:.2f} times as long); their accuracies "
            f"differ by {abs(ours.accuracy - other.accuracy):.2f} points{_certainty(ours, other)}."
        )
    return sentences


def _orthogonality(rows: Sequence[Row]) -> str:
    errors = [(r.frames, r.orthogonality_error) for r in rows if r.orthogonality_error is not None]
    if not errors:
        return ""
    largest = {frames: max(e for f, e in errors if f == frames) for frames, _ in errors}
    told = " and ".join(f"{error:.1e} on {frames} frames" for frames, error in largest.items())
    return f"The largest orthogonality error at any evaluation is {told}."


def _singular_values(rows: Sequence[Row]) -> str:
    """Tell of the largest of each method and path, whatever the rank."""
    largest: dict[str, float] = {}
    for row in rows:
        name = title(Variant.of(row.label).curve)
        largest[name] = max(largest.get(name, 0.0), row.singular_value)
    bounded = [name for name, value in largest.items() if value <= 1 + ROUNDING]
    beyond = [f"{name} ({value:.2f})" for name, value in largest.items() if value > 1 + ROUNDING]
    parts = []
    if bounded:
        parts.append(f"every layer of {_and(bounded)} ends with singular values of at most 1")
    if beyond:
        parts.append(f"the largest singular value exceeds 1 in {_and(beyond)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
