"""timm's groups of parameters by layer."""

from __future__ import annotations

from typing import Any

import torch

import sttp_riemann as sr
from tests.workflows.common import KINDS, PATHS, layers_of, moved, of_kind, spectral, weights_of


def vision_transformer() -> Any:
    from timm.models import vision_transformer as vit

    torch.manual_seed(0)
    return vit.VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=10)


def rates(model: torch.nn.Module) -> dict[int, float]:
    """The rate of each parameter under layer decay."""
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(model, layer_decay=0.5)
    return {id(p): group["lr_scale"] for group in groups for p in group["params"]}


@PATHS
def test_all_of_a_layer_is_at_the_rate_that_its_dense_weight_has(frames: str) -> None:
    dense = vision_transformer()
    wanted = {name: rates(dense)[id(p)] for name, p in dense.named_parameters()}
    model = spectral(vision_transformer(), frames, rank=4)
    found = rates(model)
    for name, layer in layers_of(model).items():
        assert len(list(layer.parameters())) > 2
        assert {found[id(p)] for p in layer.parameters()} == {wanted[f"{name}.weight"]}
    assert len({wanted[f"{name}.weight"] for name in layers_of(model)}) == 4


@KINDS
def test_a_model_of_timm_trains_in_its_groups(kind: str) -> None:
    model = of_kind(kind, vision_transformer(), **({} if kind == "dense" else {"rank": 4}))
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(model, layer_decay=0.5)
    for group in groups:
        group["lr"] = 1e-3 * group["lr_scale"]
    optimizer = sr.RiemannianAdam(groups) if kind == "riemannian" else torch.optim.AdamW(groups)
    before = weights_of(model)
    model(torch.randn(2, 3, 16, 16)).square().mean().backward()
    optimizer.step()
    assert moved(before, weights_of(model)) == set(before)
