"""Models of transformers from their configurations; the published size is that of the configuration's defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from row import Batch, Row, images, words
from torch import nn

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
WORDS = {**SIZES, "vocab_size": 128}
GROUPED = {**WORDS, "num_key_value_heads": 2}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
STACKS = {
    **{"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 128},
    **{**SPECIAL, "decoder_start_token_id": 1},
}
PICTURES = {**SIZES, "image_size": 32, "patch_size": 8}
MANY = ("Qwen3-MoE", "GPT-OSS")
"""With 9,000 matrices or more at their published depth."""
BART = "transformers.models.bart.modeling_bart."


def _build(model: str, config: str, **sizes: Any) -> nn.Module:
    import transformers

    own = getattr(transformers, config)(**sizes)
    return getattr(transformers, model)(own)


def _row(
    name: str, model: str, config: str, batch: Callable[[], Batch], register: tuple[str, ...] = (), **sizes: Any
) -> Row:
    own = {key: sizes[key] for key in ("tie_word_embeddings",) if key in sizes}
    small, size = partial(_build, model, config, **sizes), "published"
    if name in MANY:
        own, size = {**own, "num_hidden_layers": 2}, "published, but two blocks"
    return Row("transformers", name, small, batch, partial(_build, model, config, **own), register, size)


def tokens() -> Batch:
    """Of a language model."""
    return {"input_ids": words(), "use_cache": False}


def masked() -> Batch:
    """Of an encoder."""
    return {"input_ids": words()}


def pairs() -> Batch:
    """Of an encoder and a decoder."""
    return {"input_ids": words(), "decoder_input_ids": words(length=5), "use_cache": False}


def pictures() -> Batch:
    """Of a vision model."""
    return {"pixel_values": images(32)}


def _sounds() -> Batch:
    spectrogram = images(32, 2, 1).flatten(1, 2)[:, :8]
    return {"input_features": spectrogram, "decoder_input_ids": words(length=5), "use_cache": False}


def _wave() -> Batch:
    return {"input_values": torch.randn(2, 800, generator=torch.Generator().manual_seed(1))}


def _captioned() -> Batch:
    return {"input_ids": words(4), "pixel_values": images(32)}


def _clip_config(build: Callable[..., nn.Module]) -> nn.Module:
    text = {**WORDS, "max_position_embeddings": 16, **SPECIAL}
    return build("CLIPModel", "CLIPConfig", text_config=text, vision_config=PICTURES, projection_dim=32)


ROWS = (
    # Tied: the head reads the embedding's weight
    _row(
        "GPT-2",
        "GPT2LMHeadModel",
        "GPT2Config",
        tokens,
        vocab_size=128,
        n_embd=64,
        n_layer=1,
        n_head=4,
        n_positions=32,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _row("BERT", "BertForMaskedLM", "BertConfig", masked, **WORDS, max_position_embeddings=32),
    _row(
        "T5",
        "T5ForConditionalGeneration",
        "T5Config",
        pairs,
        vocab_size=128,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=1,
        num_heads=4,
        decoder_start_token_id=0,
    ),
    _row(
        "BART",
        "BartForConditionalGeneration",
        "BartConfig",
        pairs,
        (BART + "BartScaledWordEmbedding", BART + "BartLearnedPositionalEmbedding"),
        **STACKS,
        max_position_embeddings=32,
    ),
    _row(
        "Whisper",
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        _sounds,
        ("transformers.models.whisper.modeling_whisper.WhisperPositionalEmbedding",),
        **STACKS,
        num_mel_bins=8,
        max_source_positions=16,
        max_target_positions=16,
    ),
    _row(
        "DistilBERT",
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        masked,
        vocab_size=128,
        dim=64,
        hidden_dim=128,
        n_layers=1,
        n_heads=4,
        max_position_embeddings=32,
    ),
    _row("Qwen3", "Qwen3ForCausalLM", "Qwen3Config", tokens, **GROUPED, head_dim=16, tie_word_embeddings=True),
    _row(
        "Mamba",
        "MambaForCausalLM",
        "MambaConfig",
        tokens,
        vocab_size=128,
        hidden_size=64,
        state_size=8,
        num_hidden_layers=1,
    ),
    # Untied
    _row("Llama", "LlamaForCausalLM", "LlamaConfig", tokens, **GROUPED),
    _row("Mixtral", "MixtralForCausalLM", "MixtralConfig", tokens, **GROUPED, num_local_experts=4),
    _row("Qwen2", "Qwen2ForCausalLM", "Qwen2Config", tokens, **GROUPED),
    _row(
        "Qwen3-MoE",
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        tokens,
        **GROUPED,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
    ),
    _row("GPT-OSS", "GptOssForCausalLM", "GptOssConfig", tokens, **GROUPED, head_dim=16, num_local_experts=4),
    _row("GPT-NeoX", "GPTNeoXForCausalLM", "GPTNeoXConfig", tokens, **WORDS, max_position_embeddings=32),
    _row("Phi-3", "Phi3ForCausalLM", "Phi3Config", tokens, **GROUPED, **SPECIAL),
    _row("RoBERTa", "RobertaModel", "RobertaConfig", masked, **WORDS, max_position_embeddings=32),
    _row(
        "DeBERTa-v2",
        "DebertaV2Model",
        "DebertaV2Config",
        masked,
        **WORDS,
        max_position_embeddings=32,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
    ),
    _row("ViT", "ViTForImageClassification", "ViTConfig", pictures, **PICTURES, num_labels=10),
    _row("DeiT", "DeiTForImageClassification", "DeiTConfig", pictures, **PICTURES, num_labels=10),
    _row("DINOv2", "Dinov2ForImageClassification", "Dinov2Config", pictures, **PICTURES, num_labels=10),
    _row(
        "Swin",
        "SwinForImageClassification",
        "SwinConfig",
        pictures,
        image_size=32,
        patch_size=4,
        embed_dim=32,
        depths=[1, 1],
        num_heads=[2, 4],
        window_size=4,
        num_labels=10,
    ),
    Row("transformers", "CLIP", partial(_clip_config, _build), _captioned, partial(_build, "CLIPModel", "CLIPConfig")),
    _row(
        "wav2vec 2.0",
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        _wave,
        **SIZES,
        vocab_size=32,
        conv_dim=(32, 32),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        mask_time_length=2,
    ),
)
