"""Building all frames of a network takes as many kernels for sixteen equal blocks as for two."""

from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.bench.cores import all_frames
from sttp_riemann.lab.bench.networks import STTP, SVDP
from sttp_riemann.lab.bench.race import count_calls


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("form", [*SVDP, *STTP], ids=lambda form: form.name)
def test_operator_calls_do_not_grow_with_the_number_of_equal_blocks(form, direction):
    few, many = (count_calls(all_frames(form, blocks, "cpu", direction)) for blocks in (2, 16))
    assert many == few > 0


def test_operators_count_and_views_do_not():
    x = torch.randn(4, 3, 3)
    assert count_calls(lambda: x.unbind()) == 0
    assert count_calls(lambda: x.mT.reshape(-1)[2:].view(2, -1)) > 0  # copies
    assert count_calls(lambda: [y.exp() for y in x]) == 4 * count_calls(lambda: x.exp())
