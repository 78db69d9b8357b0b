"""Building all frames of a network takes as many kernels for sixteen equal blocks as for two."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.bench.calls import count_calls, count_frame_calls
from sttp_riemann.lab.bench.variants import STTP, SVDP


@pytest.mark.parametrize("variant", [*SVDP, *STTP], ids=lambda variant: variant.name)
def test_operator_calls_do_not_grow_with_the_number_of_equal_blocks(variant):
    few = count_frame_calls(variant, 2, "cpu")
    assert min(few) > 0
    assert count_frame_calls(variant, 16, "cpu") == few


def test_operators_count_and_views_do_not():
    x = torch.randn(4, 3, 3)
    assert count_calls(lambda: x.unbind()) == 0
    assert count_calls(lambda: x.mT.reshape(-1)[2:].view(2, -1)) > 0  # copies
    assert count_calls(lambda: [y.exp() for y in x]) == 4 * count_calls(lambda: x.exp())
