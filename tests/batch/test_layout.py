"""Where cores stand: every one exactly once, equal ones together, large ones apart."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sttp_riemann.batch.layout import LARGE, Layout, Member
from sttp_riemann.frames import HouseholderFrames, RiemannianFrames
from sttp_riemann.trains.shape import layer_shape
from tests.strategies import layer_dimensions


def _members(shapes, kind, spectra) -> list[Member]:
    dtypes = torch.float32, torch.float32
    return [
        Member(
            layer_shape(*shape, identity_spectrum=spectrum == "identity"),
            kind,
            spectrum,
            1.0,
            *dtypes,
            torch.device("cpu"),
        )
        for shape, spectrum in zip(shapes, spectra, strict=True)
    ]


KINDS = st.sampled_from([RiemannianFrames, HouseholderFrames])
LAYOUTS = st.builds(
    lambda some, kind, spectra: Layout(_members(some, kind, spectra * 2)),
    # every shape several times, in any order
    st.lists(layer_dimensions(), min_size=3, max_size=3).flatmap(lambda shapes: st.permutations(shapes * 2)),
    KINDS,
    st.lists(st.sampled_from(["identity", "learned", "free"]), min_size=3, max_size=3),
)


@given(LAYOUTS)
def test_every_core_and_every_trained_spectrum_has_one_place(layout: Layout) -> None:
    slots = [slot for bank in layout.banks for slot in bank.slots]
    wanted = [
        (i, train.side, k)
        for i, member in enumerate(layout.members)
        for train in (member.shape.left, member.shape.right)
        for k in range(len(train.cores))
    ]
    assert sorted(slots) == sorted(wanted)
    trained = [i for i, member in enumerate(layout.members) if member.spectrum != "identity"]
    assert sorted(i for own in layout.spectra for i in own) == trained


@given(LAYOUTS)
def test_groups_point_to_the_cores_and_values_of_their_members(layout: Layout) -> None:
    for group in layout.groups:
        for place, (bank, row) in enumerate(group.cores):
            own = layout.banks[bank].slots[row : row + len(group.members)]
            assert own == tuple((i, group.train.side, place) for i in group.members)
        if group.spectrum is not None:
            line, row = group.spectrum
            assert layout.spectra[line][row : row + len(group.members)] == group.members


@given(LAYOUTS)
def test_what_is_computed_together_is_equal(layout: Layout) -> None:
    for bank in layout.banks:
        cores = {layout.members[i].shape for i, _, _ in bank.slots}
        assert len({layout.kind.key(getattr(layout.members[i].shape, side).cores[k]) for i, side, k in bank.slots}) == 1
        assert cores
    for own in layout.spectra:
        assert len({(layout.members[i].shape.rank, layout.members[i].spectrum) for i in own}) == 1


def test_large_cores_are_computed_apart_and_small_ones_together() -> None:
    rows = 2 * LARGE // 64
    large = layer_shape(rows, (rows,), 64, "svdp")
    small = layer_shape(64, (64,), 8)
    for shape, banks in ((large, 4), (small, None)):
        members = [
            Member(shape, HouseholderFrames, "learned", 1.0, torch.float32, torch.float32, torch.device("cpu"))
        ] * 2
        found = Layout(members).banks
        assert len(found) == (banks or len(Layout(members[:1]).banks))
