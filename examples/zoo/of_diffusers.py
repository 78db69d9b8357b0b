"""Models of diffusers: denoisers and an autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from row import Batch, Row, images
from torch import Tensor, nn

STEPS = torch.tensor([3, 700])


def _unet(**sizes: Any) -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(**sizes)


def _small_unet() -> nn.Module:
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    return _unet(sample_size=16, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, **blocks)


def _conditional(**sizes: Any) -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**sizes)


def _small_conditional() -> nn.Module:
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    sizes = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 8}
    return _conditional(sample_size=16, cross_attention_dim=32, **blocks, **sizes)


def _autoencoder(**sizes: Any) -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**sizes)


def _published_autoencoder() -> nn.Module:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return _autoencoder(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **kinds)


def _small_autoencoder() -> nn.Module:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return _autoencoder(block_out_channels=(16, 32), norm_num_groups=8, sample_size=16, **kinds)


def _dit(**sizes: Any) -> nn.Module:
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(**sizes)


def _small_dit() -> nn.Module:
    return _dit(num_attention_heads=4, attention_head_dim=16, num_layers=2, sample_size=8, num_embeds_ada_norm=20)


def _noisy(channels: int, side: int) -> Tensor:
    return images(side, 2, channels)


def _prompted() -> Batch:
    states = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(2))
    return {"sample": _noisy(4, 16), "timestep": STEPS, "encoder_hidden_states": states}


ROWS = (
    Row("diffusers", "UNet2DModel", _small_unet, lambda: {"sample": _noisy(3, 16), "timestep": STEPS}, _unet),
    Row("diffusers", "UNet2DConditionModel", _small_conditional, _prompted, _conditional),
    Row("diffusers", "AutoencoderKL", _small_autoencoder, lambda: (_noisy(3, 16),), _published_autoencoder),
    Row(
        "diffusers",
        "DiTTransformer2DModel",
        _small_dit,
        lambda: {"hidden_states": _noisy(4, 8), "timestep": STEPS, "class_labels": torch.tensor([1, 2])},
        _dit,
    ),
)
