from __future__ import annotations

import pandas as pd
import pytest

from sttp_riemann.lab.bench.contest import Contest, Contestant, row
from sttp_riemann.lab.bench.networks import FORMS
from sttp_riemann.lab.bench.show import _looks, amount, bars, cells, curves, findings, summarize


def table(*measured):
    """Rows of (case, contestant, value, round, note, capped), the last two if there are any."""
    return pd.DataFrame([row(Contest(case, ()), Contestant(name, int), *rest) for case, name, *rest in measured])


PART = table(
    ("small", "ours", 0.001, 0), ("small", "theirs", 0.0025, 0),
    ("large", "ours", 0.1, 0), ("large", "theirs", 1.0, 0), ("large", "slow", 30.0, None, "> 30 s", True),
)  # fmt: skip


def test_a_value_is_the_median_of_the_rounds_and_a_ratio_that_of_the_ratios_within_a_round():
    # The machine slows down a hundredfold, and both with it; medians of all would have the ratio 0.2
    rounds = [("case", name, value, turn) for turn, (ours, theirs) in enumerate([(1, 3), (100, 300), (15, 3)])
              for name, value in (("ours", ours), ("theirs", theirs))]  # fmt: skip
    ours, theirs = summarize(table(*rounds)).itertuples()
    assert (ours.value, ours.ratio) == (15, 1)
    assert (theirs.value, theirs.ratio) == (3, 3)


def test_what_was_measured_outside_of_the_rounds_is_compared_with_the_references_median():
    found = summarize(table(("case", "ours", 1.0, 0), ("case", "ours", 3.0, 1), ("case", "peer", 8.0, None)))
    assert list(found.ratio) == [1, 4]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0012345, "seconds", "1.23 ms"),
        (0.5, "seconds", "500 ms"),
        (12.0, "seconds", "12.0 s"),
        (300 * 2**20, "bytes", "300 MiB"),
        (5000 * 2**20, "bytes", "5,000 MiB"),
        (16, "calls", "16"),
    ],
)
def test_amounts_have_three_digits_and_a_unit(value, unit, text):
    assert amount(value, unit) == text


def test_cases_are_lines_and_contestants_columns_with_value_and_ratio():
    found = cells(summarize(PART), "seconds")
    assert list(found.columns) == ["case", "ours", "theirs", "slow"]
    assert found.to_numpy().tolist() == [
        ["small", "1.00 ms", "2.50 ms (×2.50)", ""], ["large", "100 ms", "1.00 s (×10.0)", "> 30 s"]
    ]  # fmt: skip


def test_a_note_stands_beside_the_value_or_instead_of_it():
    part = table(("c", "ours", 1.0, 0), ("c", "once", 3.0, None, "one call"), ("c", "none", float("nan"), None, "no"))
    assert cells(summarize(part), "seconds").iloc[0, 2:].tolist() == ["3.00 s (×3.00), one call", "no"]


def test_findings_give_the_range_and_the_geometric_mean():
    assert findings(summarize(PART)) == [
        "theirs: 2.50 to 10.00 times ours, 5.00 in the geometric mean.",
        "slow: > 30 s.",
    ]


def test_findings_count_what_did_not_end():
    part = table(("a", "ours", 1.0, 0), ("a", "peer", 4.0, 0), ("b", "ours", 1.0, 0),
                 ("b", "peer", 30.0, None, "> 30 s", True))  # fmt: skip
    assert findings(summarize(part)) == ["peer: 4.00 times ours; 1 of 2 did not end."]


def test_a_bar_ends_where_its_contestant_was_stopped_and_is_hatched():
    small, large = bars("frames", "Frames", summarize(PART)).figure.axes
    assert [bar.get_hatch() for bar in large.patches] == [None, "////"]
    assert [bar.get_x() + bar.get_width() for bar in large.patches] == pytest.approx([10, 300])
    assert "> 30 s" in [text.get_text() for text in large.texts]
    assert [bar.get_width() for bar in small.patches] == pytest.approx([1.5, 0])


def test_who_takes_no_part_in_a_case_has_neither_bar_nor_words_there():
    part = table(
        ("a", "ours", 1.0, 0), ("a", "x", 2.0, 0), ("a", "y", 3.0, 0), ("b", "ours", 1.0, 0), ("b", "x", 2.0, 0)
    )
    _, second = bars("training", "Training", summarize(part)).figure.axes
    assert [text.get_text() for text in second.texts] == ["2.00", ""]
    assert second.patches[1].get_width() == 0


def test_curves_have_a_panel_a_dimension_and_a_line_a_contestant():
    part = table(*((f"{d} {n}", name, n * 0.01, 0) for d in ("depth", "rank") for n in (1, 2, 4) for name in "ab"))
    depth, rank = curves("growth", "Growth", summarize(part)).figure.axes
    assert [axes.get_xlabel() for axes in (depth, rank)] == ["depth", "rank"]
    assert [line.get_ydata().tolist() for line in depth.lines] == [pytest.approx([10, 20, 40])] * 2


def test_every_form_of_a_network_looks_different():
    names = [form.name for form in FORMS]
    assert len({(look["color"], look["markerfacecolor"]) for look in _looks(names).values()}) == len(names)
