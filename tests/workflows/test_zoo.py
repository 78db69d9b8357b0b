"""Small transformers and vision models with random weights: what is reached, and every verb on each."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from tests.workflows.common import PATHS

TOKENS = torch.arange(16).view(2, 8)
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
TWO_STACKS = {
    **{"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 32, "d_model": 16},
}


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    special = {"bos_token_id": 1, "eos_token_id": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=16, **special))


def bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**SIZES, max_position_embeddings=16))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0))


def bart() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration
    from transformers.models.bart import modeling_bart as own

    sr.register_layer(own.BartScaledWordEmbedding)
    sr.register_layer(own.BartLearnedPositionalEmbedding)
    return BartForConditionalGeneration(BartConfig(**TWO_STACKS, **SPECIAL, max_position_embeddings=16))


def whisper() -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration
    from transformers.models.whisper.modeling_whisper import WhisperPositionalEmbedding

    sr.register_layer(WhisperPositionalEmbedding)
    sizes = {"num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 8}
    return WhisperForConditionalGeneration(WhisperConfig(**TWO_STACKS, **SPECIAL, **sizes))


def mixtral() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4))


def qwen3() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 8}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts, num_key_value_heads=2))


def gpt_oss() -> Any:
    from transformers import GptOssConfig, GptOssForCausalLM

    return GptOssForCausalLM(GptOssConfig(**SIZES, head_dim=8, num_key_value_heads=2, num_local_experts=4))


def vit() -> Any:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=4)
    nn.init.normal_(model.heads.head.weight)
    return model


def timm_vit() -> Any:
    from timm.models import vision_transformer

    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return vision_transformer.VisionTransformer(**sizes, num_classes=4)


def image(model: Any) -> Tensor:
    return model(torch.linspace(-1, 1, 2 * 3 * 16 * 16).sin().view(2, 3, 16, 16))


def words(model: Any) -> Tensor:
    return model(TOKENS).logits


def pairs(model: Any) -> Tensor:
    return model(input_ids=TOKENS, decoder_input_ids=TOKENS[:, :5]).logits


def sounds(model: Any) -> Tensor:
    spectrogram = torch.linspace(-1, 1, 2 * 8 * 16).view(2, 8, 16)
    return model(input_features=spectrogram, decoder_input_ids=TOKENS[:, :5]).logits


ZOO: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor], float]] = {
    "GPT-2": (gpt2, words, 90),
    "BERT": (bert, words, 90),
    "T5": (t5, pairs, 90),
    "BART": (bart, pairs, 90),
    "Whisper": (whisper, sounds, 90),
    "Mixtral": (mixtral, words, 95),
    "Qwen3 with experts": (qwen3, words, 95),
    "GPT-OSS": (gpt_oss, words, 85),
    "vision transformer of torchvision": (vit, image, 85),
    "vision transformer of timm": (timm_vit, image, 85),
}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def made(name: str, frames: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = ZOO[name][0]().eval()
    return sr.reparameterize(model, **{"rank": 4, "frames": frames, **options})


@pytest.mark.parametrize("name", ZOO)
def test_dense_weights_are_kept_at_full_rank_and_most_numbers_are_reached(name: str) -> None:
    make, call, share = ZOO[name]
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        wanted = call(model)
        sr.reparameterize(model, 1.0, init="dense")
        torch.testing.assert_close(call(model), wanted, rtol=1e-3, atol=1e-4)
    assert sr.compression(model).reached > share


@PATHS
@pytest.mark.parametrize("name", ZOO)
def test_every_verb_works(name: str, frames: str) -> None:
    call = ZOO[name][1]
    model = made(name, frames)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (call(model) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert sr.orthogonality_error(model) < 1e-5

    def assert_same(other: nn.Module, tolerance: float = 2e-4) -> None:
        with torch.no_grad():
            torch.testing.assert_close(call(other), wanted, rtol=tolerance, atol=tolerance)

    with torch.no_grad():
        wanted = call(model)
    assert_same(copy.deepcopy(model), 0)
    assert_same(sr.gauge_fix(model, optimizer))
    sr.convert_frames(model, "householder" if frames == "riemannian" else "riemannian")
    assert_same(model)
    sr.convert_frames(model, frames)
    assert_same(sr.canonicalize(model))
    fresh = made(name, frames, seed=1)
    fresh.load_state_dict(copy.deepcopy(model.state_dict()))
    assert_same(fresh)
    dense = sr.decompress(model)
    assert_same(dense)
    assert dense.state_dict().keys() == ZOO[name][0]().state_dict().keys()
    assert not any(type(m).__module__.startswith("sttp_riemann") for m in dense.modules())
    table = sr.compression(model)
    assert table.dense + table.other == sum(
        t.numel() for t in {id(t): t for t in [*dense.parameters(), *dense.buffers()]}.values() if t.is_floating_point()
    )


def test_the_frozen_positions_of_whisper_stay_what_they_are() -> None:
    model = made("Whisper", "riemannian")
    torch.manual_seed(0)
    positions = whisper().model.encoder.embed_positions.weight
    assert torch.equal(model.model.encoder.embed_positions.weight, positions)
    (row,) = [row for row in sr.compression(model).left if row.reason == "frozen"]
    assert row.name == "model.encoder.embed_positions"
    assert "model.decoder.embed_positions" in spectral_layers(model)


def test_gpt2_generates_with_spectral_layers() -> None:
    model = made("GPT-2", "riemannian")
    assert model.generate(TOKENS, max_new_tokens=2, do_sample=False, pad_token_id=0).shape == (2, 10)
