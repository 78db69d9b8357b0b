"""Rows that lead, chosen greedily and whatever the gauge."""

import numpy as np
import pytest
import torch
from scipy.linalg import qr

from sttp_riemann.testing.models import rotation
from sttp_riemann.trains.pivots import leading_block, leading_rows, margins


def _frames(batch: int = 4, rows: int = 24, rank: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(batch, rows, rank, dtype=torch.float64, generator=generator)).Q


@pytest.mark.parametrize("shape", [(24, 8), (9, 8), (5, 1), (100, 30)])
def test_rows_lead_as_in_qr_with_column_pivoting(shape: tuple[int, int]) -> None:
    frames = _frames(3, *shape)
    for frame, order in zip(frames, leading_rows(frames), strict=True):
        wanted = qr(frame.T.numpy(), pivoting=True)[2][: shape[1]]
        np.testing.assert_array_equal(order[: shape[1]], wanted)
        assert order.sort().values.tolist() == list(range(shape[0]))


def test_rows_that_lead_are_the_same_in_every_gauge() -> None:
    frames = _frames()
    turned = frames @ rotation(8, torch.Generator().manual_seed(1))
    assert torch.equal(leading_rows(frames), leading_rows(turned))


def test_of_equal_rows_the_first_leads_whatever_rounding_says() -> None:
    frame = torch.eye(6, 3, dtype=torch.float64)
    turned = frame @ rotation(3, torch.Generator().manual_seed(0))
    assert leading_rows(turned[None]).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_chosen_rows_have_a_larger_margin_than_the_first_ones() -> None:
    frames = _frames(50)
    first = margins(frames[:, :8])
    chosen = margins(leading_block(frames, leading_rows(frames)))
    assert (chosen > first).all()
    assert chosen.min() > 0.1


def test_the_margin_of_what_is_not_finite_is_nan() -> None:
    blocks = torch.eye(2).repeat(2, 1, 1)
    blocks[1, 0, 0] = torch.nan
    found = margins(blocks)
    assert found[0] == 1
    assert found[1].isnan()
