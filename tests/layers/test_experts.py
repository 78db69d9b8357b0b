"""Experts of transformers and timm: a train for each matrix of each expert, whatever implementation reads them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.testing import check_split
from tests.workflows.common import PATHS


def made(count: int = 3, implementation: str = "eager") -> Any:
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts

    own = MixtralConfig(hidden_size=16, intermediate_size=12, num_local_experts=count)
    own._experts_implementation = implementation
    experts = MixtralExperts(own)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return experts


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    chosen = torch.tensor([[0, 1], [2, 0], [1, 2], [0, 2]])
    return torch.randn(4, 16, generator=generator), chosen, torch.rand(4, 2, generator=generator)


@PATHS
def test_every_verb_keeps_the_outputs(frames: str) -> None:
    model = sr.reparameterize(torch.nn.ModuleList([made()]), 4, frames=frames, spectrum="free")
    assert list(spectral_layers(model)) == [f"0.{own}.{i}" for own in ("gate_up", "down") for i in range(3)]
    wanted = model[0](*inputs())
    dense = sr.decompress(model, factored=True)
    assert type(dense[0]) is type(made())
    assert list(dense[0].state_dict()) == list(made().state_dict())
    for other in (dense, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other[0](*inputs()), wanted, rtol=1e-5, atol=1e-6)
    sr.convert_frames(sr.gauge_fix(model), "householder" if frames == "riemannian" else "riemannian")
    torch.testing.assert_close(model[0](*inputs()), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_implementation_reads_w_and_gives_its_gradient(implementation: str) -> None:
    model = sr.reparameterize(made(3, implementation), 4, spectrum="free")
    dense = sr.decompress(model)
    for own in (model, dense):
        own(*inputs()).square().sum().backward()
    torch.testing.assert_close(model(*inputs()), dense(*inputs()), rtol=1e-4, atol=1e-5)
    for name in ("gate_up", "down"):
        for i, layer in enumerate(model.get_submodule(name)):
            wanted = getattr(dense, f"{name}_proj").grad[i]
            (own,) = torch.autograd.grad((layer.weight * wanted).sum(), layer.right[0])
            torch.testing.assert_close(layer.right[0].grad, own, rtol=1e-3, atol=1e-4)


def test_at_full_rank_the_dense_weights_are_kept() -> None:
    dense = made()
    model = sr.reparameterize(copy.deepcopy(dense), 1.0, init="dense")
    torch.testing.assert_close(model.gate_up_proj.detach(), dense.gate_up_proj.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(*inputs()), dense(*inputs()), rtol=1e-4, atol=1e-5)


def test_a_single_expert_keeps_three_dimensions() -> None:
    dense = made(1)
    model = sr.reparameterize(copy.deepcopy(dense), 1.0, init="dense")
    torch.testing.assert_close(model.gate_up_proj.detach(), dense.gate_up_proj.detach(), rtol=1e-4, atol=1e-5)
    assert sr.decompress(model).down_proj.shape == dense.down_proj.shape


@pytest.mark.parametrize(
    "value", [torch.zeros(2, 24, 16), torch.zeros(24, 16), None, torch.full((3, 24, 16), torch.nan)]
)
def test_what_does_not_fit_is_refused_before_anything_changes(value: Any) -> None:
    model = sr.reparameterize(made(), 4)
    before = model.gate_up_proj.detach().clone()
    with pytest.raises((TypeError, ValueError), match=r"gate_up_proj (must be|holds NaN)"):
        model.gate_up_proj = value
    assert torch.equal(model.gate_up_proj, before)


def test_experts_are_ranked_and_excluded_one_by_one() -> None:
    model = sr.reparameterize(made(), {"down": 2, "*": 4}, exclude=["gate_up.1"])
    ranks = {name: layer.rank for name, layer in spectral_layers(model).items()}
    assert ranks == {"gate_up.0": 4, "gate_up.2": 4, "down.0": 2, "down.1": 2, "down.2": 2}
    model(*inputs()).sum().backward()
    assert model.gate_up[1].weight.grad is not None


def test_the_matrices_of_all_experts_are_built_in_one_batch() -> None:
    def operators(count: int) -> int:
        from torch.profiler import ProfilerActivity, profile

        model = sr.reparameterize(torch.nn.ModuleList([made() for _ in range(count)]), 4)
        with profile(activities=[ProfilerActivity.CPU]) as found, torch.no_grad(), sr.cached(model):
            for layer in spectral_layers(model).values():
                layer.factors()
        return sum(event.count for event in found.key_averages() if event.key == "aten::bmm")

    assert operators(1) == operators(3) > 0


def test_a_module_of_the_same_name_elsewhere_is_left() -> None:
    class Experts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_up_proj = torch.nn.Parameter(torch.randn(3, 4, 4))

    with pytest.warns(UserWarning, match=r"of no kind that is known: 0.gate_up_proj \(Experts\)"):
        sr.reparameterize(torch.nn.Sequential(Experts(), torch.nn.Linear(4, 4)), 2)


def conditional(bias: bool = True, groups: int = 1) -> Any:
    from timm.layers import CondConv2d

    return CondConv2d(4, 6, 3, padding=1, groups=groups, bias=bias, num_experts=3)


MIX = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.9, 0.1], [0.4, 0.4, 0.2], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(("bias", "groups"), [(True, 1), (False, 1), (True, 2)])
def test_a_convolution_of_mixed_kernels_is_split_into_its_kernels(bias: bool, groups: int) -> None:
    check_split(lambda: conditional(bias, groups), torch.randn(5, 4, 6, 6), MIX)


@PATHS
def test_a_network_of_mixed_kernels_keeps_its_outputs_in_every_verb(frames: str, tmp_path: Path) -> None:
    model = sr.reparameterize(torch.nn.ModuleList([conditional()]), 3, frames=frames, spectrum="free")
    assert list(spectral_layers(model)) == [f"0.experts.{i}" for i in range(3)]
    x = torch.randn(5, 4, 6, 6), MIX
    wanted = model[0](*x)
    dense = sr.decompress(model)
    assert type(dense[0]) is type(conditional())
    assert dense[0].weight.shape == conditional().weight.shape
    sr.save(model, tmp_path / "model.safetensors")
    loaded = sr.load(tmp_path / "model.safetensors", torch.nn.ModuleList([conditional()]))
    for other in (dense, loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other[0](*x), wanted, rtol=1e-5, atol=1e-6)
    model[0].weight = conditional().weight.detach()
    assert sr.orthogonality_error(model) < 1e-5
