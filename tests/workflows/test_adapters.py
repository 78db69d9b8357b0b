"""Adapters beside those of peft, and in a model of transformers."""

from __future__ import annotations

import copy

import pytest
import torch

import sttp_riemann as sr
from tests.model.adapting import ROWS, adapters, moved, relative
from tests.model.saving import pair
from tests.workflows.common import PATHS


@pytest.mark.parametrize("application", ["factored", "weight"])
def test_the_function_is_that_of_lora_in_peft(application: str) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    dense = pair()
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["0", "2"])
    rival = peft.get_peft_model(copy.deepcopy(dense), config)
    model = moved(sr.adapt(copy.deepcopy(dense), 3, "svdp", scale=2.0))
    counted = 0
    for name, layer in adapters(model).items():
        layer.application = application
        own = rival.base_model.model.get_submodule(name)
        left, right = layer.build_factors()
        with torch.no_grad():
            own.lora_B["default"].weight.copy_(left)
            own.lora_A["default"].weight.copy_(right.mT)
        counted += left.numel() + right.numel() + layer.rank
    assert relative(model(ROWS), rival(ROWS)) < 1e-5
    assert sr.adaptation(model).trainable == counted
    assert relative(sr.merge(model.eval())(ROWS), rival.merge_and_unload()(ROWS)) < 1e-5


@PATHS
def test_gpt2_starts_as_it_was_and_trains_what_is_included(frames: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.arange(8)[None]
    before = model(tokens).logits.detach()
    sr.adapt(model, 4, frames=frames, include=["*.c_attn", "*.c_proj", "*.c_fc"])
    assert torch.equal(model(tokens).logits, before)
    assert model.lm_head.weight is model.transformer.wte.weight
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.allclose(sr.merge(model)(tokens).logits, sr.decompress(model)(tokens).logits, atol=1e-6)
