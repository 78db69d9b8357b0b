"""Counts: degrees of freedom, stored numbers, dense elements, everything else, and Z."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sttp_riemann as sr
from tests.strategies import FRAMES, METHODS, SPECTRA, small_network


@given(METHODS, FRAMES, SPECTRA, st.integers(1, 20))
def test_counts_agree_with_the_tensors_there_are(method: str, frames: str, spectrum: str, rank: int) -> None:
    dense = small_network()
    elements = sum(
        m.weight.numel() for m in dense.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    )
    others = sum(t.numel() for t in dense.state_dict().values() if t.is_floating_point()) - elements
    model = sr.reparameterize(dense, rank, method, frames, spectrum)
    table = sr.compression(model)
    assert table.dense == elements
    assert table.other == others
    trainable = sum(p.numel() for n, p in model.named_parameters() if "left" in n or "right" in n or "spectrum" in n)
    assert table.stored == trainable
    assert table.ratio == pytest.approx(100 * (table.dof + others) / (elements + others))
    assert table.stored == table.dof if frames == "householder" else table.stored >= table.dof


def test_what_is_shared_counts_once_and_batch_counters_do_not() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
    model[2].bias = model[0].bias
    table = sr.compression(sr.reparameterize(model, 2))
    # one bias of 8; scale, shift, mean and variance of the batch norm
    assert table.other == 8 + 4 * 8


def test_the_table_prints_one_line_a_layer_and_z() -> None:
    text = str(sr.compression(sr.reparameterize(small_network(), 2, exclude="11")))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:7]] == ["0", "3", "5", "6", "7", "8"]
    assert lines[8].startswith("Z = ")


def test_counting_changes_nothing() -> None:
    model = sr.reparameterize(small_network(), 2)
    before = [p.clone() for p in model.parameters()]
    sr.compression(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
