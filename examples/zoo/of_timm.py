"""Models of timm, one or two a family, with fewer blocks than published where they are deep."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from row import Row, images
from torch import nn

CLASSES = 10
STANDARDIZED = ("timm.layers.ScaledStdConv2d",)


def _named(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return make


def _direct(path: str, *sizes: Any, **options: Any) -> nn.Module:
    """By its class, where the constructor of the name fixes the sizes."""
    module, _, kind = path.rpartition(".")
    return getattr(importlib.import_module(f"timm.models.{module}"), kind)(*sizes, num_classes=CLASSES, **options)


def _resnetv2() -> nn.Module:
    from timm.layers import BatchNormAct2d, StdConv2d

    layers = {"conv_layer": partial(StdConv2d, eps=1e-8), "norm_layer": BatchNormAct2d}
    return _direct("resnetv2.ResNetV2", (1, 1), (32, 64), stem_chs=16, **layers)


def _gmlp() -> nn.Module:
    from timm.layers import GatedMlp
    from timm.models.mlp_mixer import SpatialGatingBlock

    blocks = {"num_blocks": 1, "block_layer": SpatialGatingBlock, "mlp_layer": GatedMlp}
    return _direct("mlp_mixer.MlpMixer", img_size=64, embed_dim=48, mlp_ratio=4, **blocks)


def _repvgg() -> nn.Module:
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    blocks = tuple(ByoBlockCfg(type="rep", d=1, c=width, s=2) for width in (16, 32, 48, 64))
    return ByobNet(ByoModelCfg(blocks=blocks, stem_type="rep", stem_chs=16), num_classes=CLASSES)


def _efficient(*blocks: str, kind: str = "efficientnet.EfficientNet", **options: Any) -> nn.Module:
    """Of one block each."""
    from timm.models._efficientnet_builder import decode_arch_def

    own = {"block_args": decode_arch_def([[block] for block in blocks]), "stem_size": 16, "num_features": 64}
    return _direct(kind, **own, **options)


def _mobile(*blocks: str) -> nn.Module:
    return _efficient(*blocks, kind="mobilenetv3.MobileNetV3")


def _vovnet() -> nn.Module:
    widths = {"stem_chs": [16, 16, 16], "stage_conv_chs": [16, 16, 24, 24], "stage_out_chs": [32, 32, 48, 64]}
    blocks = {"layer_per_block": 2, "block_per_stage": [1, 1, 1, 1], "residual": True, "depthwise": True, "attn": "ese"}
    return _direct("vovnet.VovNet", {**widths, **blocks})


def _built(name: str, make: Callable[[], nn.Module], side: int = 32, register: tuple[str, ...] = ()) -> Row:
    return Row("timm", name, make, lambda: (images(side),), _named(name), register)


def _row(name: str, side: int = 64, register: tuple[str, ...] = (), **smaller: Any) -> Row:
    small = _named(name, num_classes=CLASSES, **smaller)
    return Row("timm", name, small, lambda: (images(side),), _named(name), register)


THIN = {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48)}
ONE = {"depth": 1, "img_size": 64}
ROWS = (
    # Convolutions
    _row("resnet18", **THIN),
    _row("seresnext26d_32x4d", **THIN, cardinality=4, base_width=32),
    _row("res2net50_26w_4s", **THIN),
    _row("resnest14d", **THIN, stem_width=8),
    _row("skresnet18", **THIN),
    _built("resnetv2_50x1_bit", _resnetv2, 32, ("timm.layers.StdConv2d",)),
    _row("nf_resnet26", 32, STANDARDIZED, depths=(1, 1, 1, 1), channels=(16, 32, 48, 64)),
    _row("eca_nfnet_l0", 32, STANDARDIZED, depths=(1, 1, 1, 1), channels=(64, 64, 64, 64), group_size=8),
    _row("regnety_002", 32, depth=6, w0=16, wa=24.0, wm=2.0, group_size=8),
    _built("repvgg_a0", _repvgg),
    _row("densenet121", 32, block_config=(2, 2, 2, 2), growth_rate=8),
    _built("dla60_res2net", partial(_direct, "dla.DLA", levels=(1, 1, 1, 1, 1, 1), channels=(8, 8, 16, 16, 24, 32))),
    _built("ese_vovnet19b_slim", _vovnet, 64),
    _built(
        "tf_efficientnet_lite0",
        partial(_efficient, "ds_r1_k3_s1_e1_c16", "ir_r1_k5_s2_e6_c24", pad_type="same"),
        32,
        ("timm.layers.Conv2dSame",),
    ),
    _built("mobilenetv3_small_050", partial(_mobile, "ds_r1_k3_s2_e1_c16_se0.25_nre", "ir_r1_k5_s2_e4_c24_se0.25")),
    _built("mobilenetv4_conv_small_050", partial(_mobile, "cn_r1_k3_s2_e1_c16", "uir_r1_a5_k5_s2_e3_c24")),
    _built("mixnet_s", partial(_efficient, "ds_r1_k3_s1_e1_c16", "ir_r1_k3.5_a1.1_p1.1_s2_e6_c24")),
    _built("rexnet_100", partial(_direct, "rexnet.RexNet", width_mult=0.3, depth_mult=0.2)),
    _row("repvit_m0_9", 32, embed_dim=(16, 32), depth=(1, 1)),
    _row("convnext_atto", 32, depths=(1, 1, 1, 1), dims=(16, 24, 32, 48)),
    _row("mambaout_femto", 32, depths=(1, 1), dims=(16, 32)),
    # Attention
    _row("vit_tiny_patch16_224", **ONE, embed_dim=48),
    _row("deit_tiny_distilled_patch16_224", **ONE, embed_dim=48),
    _row("beit_base_patch16_224", **ONE, embed_dim=48, num_heads=3),
    _row("eva02_tiny_patch14_224", 56, depth=1, img_size=56, embed_dim=48),
    _row("cait_xxs24_224", **ONE, embed_dim=48),
    _row("xcit_nano_12_p16_224", **ONE, embed_dim=48),
    _row("swin_tiny_patch4_window7_224", 32, img_size=32, window_size=4, depths=(1, 1), embed_dim=32, num_heads=(1, 2)),
    _row("coat_lite_tiny", 32, img_size=32, embed_dims=(16, 32, 48, 64), serial_depths=(1, 1, 1, 1)),
    _row("levit_128s", 64, img_size=64, embed_dim=(32, 48), depth=(1, 1), num_heads=(2, 3), down_ops=None),
    _row("pvt_v2_b0", 32, depths=(1, 1, 1, 1), embed_dims=(16, 32, 40, 48), num_heads=(1, 2, 5, 6)),
    _row("twins_svt_small", 64, img_size=64, depths=(1, 1, 1, 1), embed_dims=(16, 32, 48, 64)),
    _built("poolformer_s12", partial(_direct, "metaformer.MetaFormer", depths=(1, 1, 1, 1), dims=(16, 24, 32, 48)), 64),
    _row("coatnet_nano_rw_224", 64, img_size=64, depths=(1, 1), embed_dim=(32, 64), stem_width=16),
    # Neither
    _built("mixer_s16_224", partial(_direct, "mlp_mixer.MlpMixer", img_size=64, num_blocks=1, embed_dim=48), 64),
    _built("gmlp_s16_224", _gmlp, 64),
    _row("sequencer2d_s", 64, layers=(1, 1, 1, 1), embed_dims=(24, 32, 32, 32), hidden_sizes=(6, 8, 8, 8)),
)
