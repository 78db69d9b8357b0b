from __future__ import annotations

import pytest

from sttp_riemann.lab.bench.contest import Entry
from sttp_riemann.lab.bench.findings import findings
from sttp_riemann.lab.bench.sections import SECTIONS
from sttp_riemann.lab.bench.table import amount, cell, grid, markdown

ENTRIES = [
    Entry("small", "ours", 0.001),
    Entry("small", "theirs", 0.0025, 2.5),
    Entry("large", "ours", 0.1),
    Entry("large", "theirs", 1.0, 10.0),
    Entry("large", "slow", note="> 30 s"),
]


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


def test_a_cell_tells_value_ratio_and_note():
    assert cell(Entry("c", "n", 2.0, 3.14159, "one call"), "seconds") == "2.00 s (×3.14), one call"
    assert cell(Entry("c", "n", note="> 30 s"), "seconds") == "> 30 s"


def test_cases_are_lines_and_contestants_columns():
    assert grid(ENTRIES, "seconds") == [
        ["", "ours", "theirs", "slow"],
        ["small", "1.00 ms", "2.50 ms (×2.50)", ""],
        ["large", "100 ms", "1.00 s (×10.0)", "> 30 s"],
    ]


def test_the_columns_of_a_table_are_aligned():
    lines = markdown(grid(ENTRIES, "seconds")).splitlines()
    assert len(lines) == 4
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1


def test_findings_give_the_range_and_the_geometric_mean():
    assert findings(SECTIONS["frames"], ENTRIES) == [
        "theirs: 2.50 to 10.00 times the time of compact WY, 5.00 in the geometric mean.",
        "slow: > 30 s.",
    ]


def test_findings_count_what_did_not_end():
    entries = [Entry("a", "peer", 1.0, 4.0), Entry("b", "peer", note="> 30 s")]
    assert findings(SECTIONS["frames"], entries) == ["peer: 4.00 times the time of compact WY; 1 of 2 did not end."]
