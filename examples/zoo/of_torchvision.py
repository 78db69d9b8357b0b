"""Models of torchvision, narrow and with few blocks where their constructors allow it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from row import Batch, Row, images
from torch import nn

CLASSES = {"num_classes": 10}


def _named(name: str, **options: Any) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, weights=None, **options)


def _alexnet() -> nn.Module:
    from torchvision.models import AlexNet

    with torch.device("meta"):
        model: Any = AlexNet(10)
    model.classifier[1], model.classifier[4] = nn.Linear(9216, 64, device="meta"), nn.Linear(64, 64, device="meta")
    model.classifier[6] = nn.Linear(64, 10, device="meta")
    return _filled(model)


def _vgg() -> nn.Module:
    from torchvision.models.vgg import VGG, make_layers

    with torch.device("meta"):
        model: Any = VGG(make_layers([16, "M", 32, "M", 48, 48, "M"], batch_norm=True), 10, init_weights=False)
    model.classifier[0], model.classifier[3] = nn.Linear(48 * 49, 64, device="meta"), nn.Linear(64, 64, device="meta")
    model.classifier[6] = nn.Linear(64, 10, device="meta")
    return _filled(model)


def _filled(model: nn.Module) -> nn.Module:
    """Draw the numbers of a model on the meta device, as its layers do."""
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


def _resnet(kind: str, **options: Any) -> nn.Module:
    """Without its last stage."""
    from torchvision.models import resnet

    model: Any = resnet.ResNet(getattr(resnet, kind), [1, 1, 1, 1], 10, **options)
    model.layer4, model.fc = nn.Sequential(), nn.Linear(model.layer4[0].conv1.in_channels, 10)
    return model


def _video() -> nn.Module:
    """Without its last stages."""
    from torchvision.models import video

    model: Any = video.r3d_18(**CLASSES)
    model.layer2, model.layer3, model.layer4, model.fc = *(nn.Sequential() for _ in range(3)), nn.Linear(64, 10)
    return model


def _densenet() -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(8, (2, 1, 1, 2), 16, num_classes=10)


def _shufflenet() -> nn.Module:
    from torchvision.models import ShuffleNetV2

    return ShuffleNetV2([1, 2, 1], [16, 32, 48, 64, 128], num_classes=10)


def _regnet() -> nn.Module:
    from torchvision.models.regnet import BlockParams, RegNet

    return RegNet(BlockParams.from_init_params(depth=4, w_0=16, w_a=16.0, w_m=2.0, group_width=8, se_ratio=0.25), 10)


def _efficientnet() -> nn.Module:
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    blocks = [MBConvConfig(1, 3, 1, 16, 16, 1, 1.0, 1.0), MBConvConfig(4, 5, 2, 16, 32, 2, 1.0, 1.0)]
    return EfficientNet(blocks, 0.2, 0.2, 10, last_channel=64)


def _mobilenet_v2() -> nn.Module:
    from torchvision.models import MobileNetV2

    return MobileNetV2(10, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]])


def _mobilenet_v3() -> nn.Module:
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    one = InvertedResidualConfig(16, 3, 32, 16, True, "RE", 2, 1, 1.0)
    return MobileNetV3([one, InvertedResidualConfig(16, 5, 64, 24, True, "HS", 2, 1, 1.0)], 64, 10)


def _vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 1, 4, 48, 96, num_classes=10)


def _swin(kind: str = "") -> nn.Module:
    from torchvision.models import swin_transformer

    options = {"block": swin_transformer.SwinTransformerBlockV2, "downsample_layer": swin_transformer.PatchMergingV2}
    own = options if kind else {}
    return swin_transformer.SwinTransformer([4, 4], 32, [1, 2], [2, 4], [4, 4], num_classes=10, **own)


def _maxvit() -> nn.Module:
    from torchvision.models import MaxVit

    return MaxVit((32, 32), 16, 4, [16, 32], [1, 1], 8, 0.1, num_classes=10)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(24, 48, 2), CNBlockConfig(48, None, 2)], num_classes=10)


def _clip() -> Batch:
    return (torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1)),)


def _row(name: str, small: Callable[[], nn.Module], side: int = 64) -> Row:
    return Row("torchvision", name, small, lambda: (images(side),), partial(_named, name))


ROWS = (
    _row("alexnet", _alexnet),
    _row("vgg11_bn", _vgg, 32),
    _row("resnet18", partial(_resnet, "BasicBlock"), 32),
    _row("resnext50_32x4d", partial(_resnet, "Bottleneck", groups=8, width_per_group=4), 32),
    _row("densenet121", _densenet, 32),
    _row("squeezenet1_1", partial(_named, "squeezenet1_1", **CLASSES)),
    _row("mobilenet_v2", _mobilenet_v2, 32),
    _row("mobilenet_v3_small", _mobilenet_v3, 32),
    _row("shufflenet_v2_x1_0", _shufflenet, 32),
    _row("efficientnet_b0", _efficientnet, 32),
    _row("regnet_y_400mf", _regnet, 32),
    _row("convnext_tiny", _convnext, 32),
    _row("vit_b_16", _vit, 32),
    _row("swin_t", _swin, 32),
    _row("swin_v2_t", partial(_swin, "v2"), 32),
    _row("maxvit_t", _maxvit, 32),
    Row("torchvision", "r3d_18", _video, _clip, partial(_named, "r3d_18")),
)
