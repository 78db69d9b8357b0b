"""Counts of what adapters train."""

from __future__ import annotations

import pytest

import sttp_riemann as sr
from tests.model.adapting import made
from tests.model.saving import pair


def test_what_is_counted_is_what_is_there() -> None:
    model = made(method="svdp", trainable="2.bias", exclude="0")
    sizes = sr.adaptation(model)
    assert [(row.name, row.d_out, row.d_in, row.rank) for row in sizes.layers] == [("2", 6, 18, 3)]
    assert (sizes.stored, sizes.dof) == (3 * (6 + 18 + 1), 3 * (6 + 18 + 1) - 2 * 6)
    assert (sizes.trainable, sizes.elsewhere) == (sizes.stored + 6, 6)
    assert sizes.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sizes.pretrained == sum(p.numel() for p in pair().parameters())
    assert f"{sizes.trainable:,} numbers are trained" in str(sizes)
    with pytest.raises(ValueError, match=r"layer '2' is an adapter .* sr.adaptation"):
        sr.compression(model)
    assert sr.adaptation(sr.merge(model)).pretrained == sizes.pretrained
    with pytest.raises(ValueError, match="no adapter"):
        sr.adaptation(sr.reparameterize(pair(), 2))
