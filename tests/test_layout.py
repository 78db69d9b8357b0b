"""Where cores stand: every one exactly once, neighbours where they are multiplied together."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.frames import HouseholderBank, RiemannianBank
from sttp_riemann.layout import Layout
from sttp_riemann.tt import layer_shape
from tests.strategies import layer_dimensions

LAYOUTS = st.lists(layer_dimensions(), min_size=1, max_size=3).flatmap(
    # every shape several times, in any order
    lambda shapes: st.permutations(shapes * 2).map(lambda some: Layout([layer_shape(*s) for s in some]))
)
KEYS = st.sampled_from([RiemannianBank.key, HouseholderBank.key])


@given(LAYOUTS, KEYS)
def test_packing_and_unpacking_are_inverse_and_views(layout: Layout, key) -> None:
    cores = [[torch.randn(len(g.layers), c.rows, c.inner) for c in g.train.cores] for g in layout.groups]
    banks = layout.pack(cores, key)
    unpacked = layout.unpack(banks, key)
    for own, again in zip(cores, unpacked, strict=True):
        for a, b in zip(own, again, strict=True):
            assert torch.equal(a, b)
    for (group, core), (name, first) in layout.first_rows(key).items():
        assert torch.equal(banks[name][first], cores[group][core][0])
    assert sum(len(bank) for bank in banks.values()) == sum(len(g.layers) * len(g.train.cores) for g in layout.groups)


@given(LAYOUTS)
def test_layers_that_share_both_trains_are_neighbours_on_both_sides(layout: Layout) -> None:
    seen = set()
    for layer, (index, row) in layout.pairing_of.items():
        pairing = layout.pairings[index]
        left, right = layout.left_of[layer], layout.right_of[layer]
        assert left == (pairing.left, pairing.left_rows.start + row)
        assert right == (pairing.right, pairing.right_rows.start + row)
        seen.add(layer)
    assert seen == set(layout.order)


@given(LAYOUTS)
def test_the_order_of_spectra_is_that_of_the_left_groups(layout: Layout) -> None:
    assert layout.order == tuple(layer for group in layout.left_groups for layer in group.layers)
