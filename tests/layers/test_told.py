"""What a layer tells of itself makes it again, and is read with care."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sttp_riemann as sr
from sttp_riemann.layers.options import decode, encode
from sttp_riemann.layers.told import read_told
from tests.strategies import FRAMES, METHODS, SPECTRA
from tests.workflows.common import PATHS


@given(METHODS, FRAMES, SPECTRA, st.sampled_from(["orthogonal", "identity", "dense"]), st.booleans(), st.booleans())
def test_the_options_of_every_layer_are_read_as_they_were(
    method: str, frames: str, spectrum: str, init: str, pivots: bool, narrow: bool
) -> None:
    layer = sr.reparameterize(nn.Conv2d(6, 8, 3), 4, method, frames, spectrum, init, pivots=pivots)
    layer.to(torch.bfloat16 if narrow else torch.float64)
    told = read_told(decode(layer.get_extra_state()))
    assert (told.options, told.frames) == (layer.options, frames)
    assert (told.modes, told.ranks) == (layer.shape.modes, layer.shape.ranks)
    assert told.dtype == (torch.bfloat16 if narrow else None)


@PATHS
def test_the_state_of_a_layer_as_usual_is_as_it_was_before_it_told_all(frames: str) -> None:
    """States of former versions load, and former versions load ours."""
    layer = sr.reparameterize(nn.Linear(12, 18), 4, frames=frames)
    told = decode(layer.get_extra_state())
    needed = {"method", "modes", "ranks", "frames", "spectrum", "bound", "kernel_modes"}
    assert set(told) == (needed | {"pivots"} if frames == "householder" else needed)


@PATHS
def test_what_a_state_tells_beyond_the_compared_options_need_not_fit(frames: str) -> None:
    starts = ("identity", "orthogonal")
    saved, found = (sr.reparameterize(nn.Linear(12, 18), 4, frames=frames, init=start) for start in starts)
    found.load_state_dict(saved.state_dict())
    assert torch.equal(found.weight, saved.weight)
    assert found.options.init == "orthogonal"


@pytest.mark.parametrize("value", [None, 3, [], "text", {}, {1: 2}])
def test_what_is_no_mapping_of_options_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"mapping|missing"):
        read_told(value)


def test_options_survive_casts_of_a_state() -> None:
    told = sr.reparameterize(nn.Linear(12, 18), 4, init="dense").told()
    assert decode(encode(told).double()) == told
