"""Figures of a benchmark."""

from __future__ import annotations

import pytest

from sttp_riemann.lab.bench.contest import Entry
from sttp_riemann.lab.bench.figures import COLORS, draw
from sttp_riemann.lab.bench.variants import VARIANTS


@pytest.mark.parametrize("count", [1, 6, 12])
def test_any_number_of_contestants_can_be_drawn(count) -> None:
    entries = [Entry("case", f"contestant {i}", 1.0 + i, 1.0 + i if i else None) for i in range(count + 1)]
    assert draw("bars", entries, "the first").startswith(b"\x89PNG")


def test_every_variant_of_a_network_has_a_colour_of_its_own() -> None:
    assert len({COLORS[variant.name] for variant in VARIANTS}) == len(VARIANTS)
