from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.networks.char_transformer import CharTransformer


def test_a_place_sees_itself_and_those_before_it_only():
    torch.manual_seed(0)
    network, text = CharTransformer(11, 8, width=16, depth=2), torch.randint(11, (2, 8))
    other = text.clone()
    other[:, 5] = (other[:, 5] + 1) % 11
    ours, theirs = network(text), network(other)
    assert ours.shape == (2, 8, 11)
    torch.testing.assert_close(ours[:, :5], theirs[:, :5])
    assert all((ours[:, k] - theirs[:, k]).abs().max() > 1e-4 for k in (5, 6, 7))


def test_equal_characters_at_other_places_are_told_apart():
    torch.manual_seed(0)
    scores = CharTransformer(11, 8, width=16)(torch.zeros(1, 8, dtype=torch.int64))
    assert (scores[0, 3] - scores[0, 4]).abs().max() > 1e-4


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 10 is no multiple of heads 4"):
        CharTransformer(width=10)
