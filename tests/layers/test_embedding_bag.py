"""EmbeddingBag computes what torch's does with the same W, in every mode and form of input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sttp_riemann as sr

WORDS = torch.tensor([1, 3, 7, 3, 2, 2, 5])
FORMS = {
    "rows": (WORDS[:6].view(2, 3),),
    "offsets": (WORDS, torch.tensor([0, 2, 2, 5])),
    "an empty bag at the end": (WORDS, torch.tensor([0, 7])),
}


@pytest.mark.parametrize("application", ["auto", "weight", "factored"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"include_last_offset": True}], ids=str)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_are_those_of_the_dense_layer(
    form: str, mode: str, options: dict, application: str
) -> None:
    if (mode, application) == ("max", "factored") or ("include_last_offset" in options and len(FORMS[form]) == 1):
        return
    layer = sr.reparameterize(nn.EmbeddingBag(10, 6, mode=mode, **options).double(), 3)
    layer.application = application
    dense = sr.decompress(layer)
    out, wanted = layer(*FORMS[form]), dense(*FORMS[form])
    torch.testing.assert_close(out, wanted)
    out.square().sum().backward()
    wanted.square().sum().backward()
    weight = layer.weight
    found = torch.autograd.grad((weight * dense.weight.grad).sum(), layer.right[0])
    torch.testing.assert_close(layer.right[0].grad, found[0])


def test_weights_of_samples_are_used() -> None:
    layer = sr.reparameterize(nn.EmbeddingBag(10, 6, mode="sum").double(), 3)
    shares = torch.rand(7, dtype=torch.float64)
    offsets = torch.tensor([0, 4])
    wanted = sr.decompress(layer)(WORDS, offsets, shares)
    torch.testing.assert_close(layer(WORDS, offsets=offsets, per_sample_weights=shares), wanted)


def test_a_maximum_is_not_factored_and_says_so() -> None:
    layer = sr.reparameterize(nn.EmbeddingBag(10, 6, mode="max"), 3)
    layer.application = "factored"
    with pytest.raises(ValueError, match="an EmbeddingBag cannot be applied as 'factored'; choose one of auto, weight"):
        layer(WORDS, torch.tensor([0, 2]))


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"sparse": True}, {"scale_grad_by_freq": True}], ids=str)
def test_what_works_on_rows_of_a_parameter_is_refused(option: dict) -> None:
    with pytest.raises(ValueError, match=f"an embedding with {next(iter(option))} cannot be reparameterized; exclude"):
        sr.reparameterize(nn.EmbeddingBag(10, 6, mode="sum", **option), 3)
