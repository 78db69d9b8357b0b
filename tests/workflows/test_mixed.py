"""Layers of several dtypes, devices and states of freezing in one model."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import sttp_riemann as sr
from tests.workflows.common import FRAMES, PATHS, Net, frames_of, inputs, layers_of, optimizer_for, spectral, train

OTHER = {"riemannian": "householder", "householder": "riemannian"}


class Mixed(nn.Module):
    """A first layer in one dtype, a second in another."""

    def __init__(self, first: torch.dtype, second: torch.dtype) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 32).to(first), nn.Linear(32, 10).to(second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x.to(self.first.bias.dtype)).to(self.second.bias.dtype))


DTYPES = pytest.mark.parametrize(
    ("first", "second"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float64), (torch.float64, torch.bfloat16)],
)


@DTYPES
@PATHS
def test_each_layer_keeps_its_dtype(frames: str, first: torch.dtype, second: torch.dtype) -> None:
    model = spectral(Mixed(first, second), frames, rank=4)
    assert [model.first.weight.dtype, model.second.weight.dtype] == [first, second]
    assert [model.first.bias.dtype, model.second.bias.dtype] == [first, second]
    assert model(inputs()).dtype == second
    losses = train(model, optimizer_for(frames, model.parameters()), 10)
    assert losses[-1] < losses[0]
    dense = sr.decompress(model)
    assert [dense.first.weight.dtype, dense.second.weight.dtype] == [first, second]


@DTYPES
@PATHS
def test_one_layer_is_cast_afterwards(frames: str, first: torch.dtype, second: torch.dtype) -> None:
    model = spectral(Mixed(torch.float32, torch.float32), frames, rank=4)
    model.first.to(first)
    model.second.to(second)
    assert [model.first.weight.dtype, model.second.weight.dtype] == [first, second]
    assert model(inputs()).dtype == second
    assert sr.orthogonality_error(model) < 1e-5


@PATHS
def test_each_layer_stays_on_its_device(frames: str) -> None:
    model = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 10, device="meta"))
    spectral(model, frames, rank=4)
    assert model[0](inputs()).device.type == "cpu"
    assert model[1](torch.empty(8, 32, device="meta")).device.type == "meta"
    assert {p.device.type for p in model[0].parameters()} == {"cpu"}
    assert {p.device.type for p in model[1].parameters()} == {"meta"}


@pytest.mark.gpu
@PATHS
def test_a_model_is_split_over_two_devices(frames: str) -> None:
    model = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 10).cuda())
    spectral(model, frames, rank=4)
    model[1](model[0](inputs()).cuda()).square().mean().backward()
    assert all(p.grad.device == p.device for p in model.parameters())
    optimizer_for(frames, model.parameters()).step()
    assert sr.orthogonality_error(model) < 1e-5


EMPTY = {
    "linear": (lambda: nn.Linear(6, 12), torch.zeros(0, 6)),
    "linear over a sequence": (lambda: nn.Linear(6, 12), torch.zeros(3, 0, 6)),
    "convolution": (lambda: nn.Conv2d(6, 12, 3), torch.zeros(0, 6, 8, 8)),
    "grouped": (lambda: nn.Conv2d(6, 12, 3, groups=2), torch.zeros(0, 6, 8, 8)),
    "pointwise": (lambda: nn.Conv2d(6, 12, 1), torch.zeros(0, 6, 8, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 12, 3), torch.zeros(0, 6, 8, 8)),
    "transposed and grouped": (lambda: nn.ConvTranspose2d(6, 12, 3, groups=2), torch.zeros(0, 6, 8, 8)),
    "embedding": (lambda: nn.Embedding(20, 12), torch.zeros(0, 5, dtype=torch.long)),
}


@pytest.mark.parametrize("kind", EMPTY)
@PATHS
def test_an_empty_batch_gives_an_empty_result_and_gradients_of_zero(frames: str, kind: str) -> None:
    make, x = EMPTY[kind]
    layer = spectral(make(), frames, rank=2)
    for application in ("auto", "weight", "factored"):
        layer.application = application
        layer.zero_grad()
        out = layer(x)
        assert out.shape == make()(x).shape
        out.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


def frozen_by_name(model: nn.Module) -> dict[str, bool]:
    """Whether any number of each layer learns."""
    return {name: any(p.requires_grad for p in layer.parameters()) for name, layer in layers_of(model).items()}


@PATHS
def test_converting_frames_keeps_what_is_frozen_and_what_hangs_on_a_layer(frames: str) -> None:
    model = spectral(Net(), frames).eval()
    model.backbone.requires_grad_(False)
    calls: list[str] = []
    model.head.register_forward_hook(lambda *_: calls.append("forward"))
    model.head.application = "weight"
    before = model(inputs())
    sr.convert_frames(model, OTHER[frames])
    assert frozen_by_name(model) == {"backbone.0": False, "backbone.2": False, "head": True}
    assert all(p.requires_grad for p in model.head.parameters())
    torch.testing.assert_close(model(inputs()), before, rtol=1e-4, atol=1e-5)
    assert calls == ["forward", "forward"]
    assert not model.head.training
    assert model.head.application == "weight"


@pytest.mark.parametrize("factored", [False, True])
@PATHS
def test_decompressing_keeps_what_is_frozen(frames: str, factored: bool) -> None:
    model = spectral(Net(), frames, rank=4)
    model.backbone.requires_grad_(False)
    with torch.no_grad():
        dense = sr.decompress(model, factored=factored)
    assert not any(p.requires_grad for p in dense.backbone.parameters())
    assert all(p.requires_grad for p in dense.head.parameters())


@pytest.mark.parametrize("factored", [False, True])
@PATHS
def test_decompressing_keeps_hooks_and_modes(frames: str, factored: bool) -> None:
    model = spectral(Net(), frames, rank=4).eval()
    calls: list[str] = []
    model.backbone[0].register_forward_hook(lambda *_: calls.append("after"))
    model.backbone[0].register_forward_pre_hook(lambda *_: calls.append("before"))
    dense = sr.decompress(model, factored=factored)
    torch.testing.assert_close(dense(inputs()), model(inputs()), rtol=1e-4, atol=1e-5)
    assert calls == ["before", "after"] * 2
    assert not any(module.training for module in dense.modules())


@PATHS
def test_a_layer_frozen_in_part_stays_so_in_every_form(frames: str) -> None:
    model = spectral(Net(), frames)
    model.head.weight.requires_grad_(False)
    sr.gauge_fix(model)
    assert not any(p.requires_grad for p in frames_of(nn.ModuleList([model.head])))
    sr.convert_frames(model, OTHER[frames])
    assert not any(p.requires_grad for p in frames_of(nn.ModuleList([model.head])))
    assert model.head.bias.requires_grad
    dense = sr.decompress(model)
    assert not dense.head.weight.requires_grad
    assert dense.head.bias.requires_grad


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        return 2 * bias


@pytest.mark.parametrize("factored", [False, True])
@PATHS
def test_a_parametrized_bias_goes_through_decompress(frames: str, factored: bool) -> None:
    model = spectral(nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 10)), frames, rank=4)
    parametrize.register_parametrization(model[0], "bias", Doubled())
    before = model(inputs())
    dense = sr.decompress(model, factored=factored)
    torch.testing.assert_close(dense(inputs()), before, rtol=1e-4, atol=1e-5)
    assert not any(hasattr(module, "rank") for module in dense.modules())
    torch.testing.assert_close(model(inputs()), before)


@PATHS
def test_a_layer_whose_bias_is_parametrized_already_becomes_spectral_and_dense_again(frames: str) -> None:
    """Its class is torch's own by then."""
    model = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 10))
    parametrize.register_parametrization(model[0], "bias", Doubled())
    bias = model[0].bias.detach().clone()
    spectral(model, frames, rank=4)
    assert set(layers_of(model)) == {"0", "1"}
    dense = sr.decompress(model)
    for twin in (model, dense):
        torch.testing.assert_close(twin[0].bias.detach(), bias)
    assert parametrize.is_parametrized(dense[0], "bias")
    torch.testing.assert_close(model(inputs()), dense(inputs()), rtol=1e-5, atol=1e-5)


def test_two_kinds_of_frames_live_in_one_model() -> None:
    model = nn.Sequential(nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 10))
    for index, frames in zip((0, 2), FRAMES, strict=True):
        spectral(model[index], frames, rank=4)
    dense = sr.decompress(model)
    torch.testing.assert_close(model(inputs()), dense(inputs()), rtol=1e-5, atol=1e-5)
    losses = train(model, sr.RiemannianAdam(model.parameters(), lr=1e-2), 10)
    assert losses[-1] < losses[0]
    assert sr.orthogonality_error(model) < 1e-5
