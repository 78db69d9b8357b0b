"""What a table shows, in words made from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sttp_riemann.study.results import Row

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
    sentences = [_accuracy(rows), _size(rows), *_against_dense(rows), *_paths(rows), _orthogonality(rows)]
    return [s for s in [*sentences, _singular_values(rows)] if s]


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
    bounded = [r for r in rows if r.singular_value <= 1 + ROUNDING]
    beyond = [r for r in rows if r.singular_value > 1 + ROUNDING]
    parts = []
    if bounded:
        parts.append(f"every layer of {_and([r.title for r in bounded])} ends with singular values of at most 1")
    if beyond:
        told = _and([f"{r.title} ({r.singular_value:.2f})" for r in beyond])
        parts.append(f"the largest singular value exceeds 1 in {told}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
