"""Layers of own classes keep their own forward, on W."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sttp_riemann as sr
import sttp_riemann.testing
from sttp_riemann.model.measures import spectral_layers
from tests.workflows.common import PATHS


class Standardized(nn.Conv2d):
    """Weight standardization, with a gain of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 0.7))

    def forward(self, input: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        return self._conv_forward(input, self.gain * (self.weight - mean) / (deviation + 1e-5), self.bias)


class Twice(Standardized):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Scaled(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 3.0


class Positions(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return self.weight[: input.shape[-1]]


class Tagged(nn.Linear):
    """Overrides nothing."""


class Odd(nn.Linear):
    """Its weight is not of the base's shape."""

    def __init__(self) -> None:
        super().__init__(4, 6)
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, input: Tensor) -> Tensor:
        return input @ self.weight


for own in (Standardized, Twice, Scaled, Positions, Tagged, Odd):
    sr.register_layer(own)

EXAMPLES = {
    "Standardized": (lambda: Standardized(6, 8, 3), torch.randn(2, 6, 9, 9)),
    "Standardized, grouped": (lambda: Standardized(6, 8, 3, groups=2, stride=2), torch.randn(2, 6, 9, 9)),
    "Twice": (lambda: Twice(6, 8, 3), torch.randn(2, 6, 9, 9)),
    "Scaled": (lambda: Scaled(14, 9, padding_idx=2), torch.arange(14)),
    "Positions": (lambda: Positions(14, 9), torch.arange(5)),
    "Tagged": (lambda: Tagged(12, 18), torch.randn(5, 12)),
}
CASES = pytest.mark.parametrize("case", EXAMPLES)


@CASES
def test_registered_classes_pass_the_check_of_layers(case: str) -> None:
    sr.testing.check_layer(*EXAMPLES[case])


@PATHS
@CASES
def test_every_form_of_a_registered_layer_computes_the_same(case: str, frames: str) -> None:
    make, x = EXAMPLES[case]
    model = sr.reparameterize(nn.Sequential(make()), 3, frames=frames, spectrum="free")
    kind, wanted = type(make()), model(x)
    assert isinstance(model[0], kind)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), sr.decompress(model, factored=True)):
        torch.testing.assert_close(other(x), wanted, rtol=1e-5, atol=1e-5)
    assert type(sr.decompress(model)[0]) is kind
    sr.gauge_fix(model)
    sr.convert_frames(model, "householder" if frames == "riemannian" else "riemannian")
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    fresh = sr.reparameterize(nn.Sequential(make()), 3, frames=frames, spectrum="free", seed=1)
    sr.convert_frames(fresh, "householder" if frames == "riemannian" else "riemannian")
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))


@CASES
def test_cores_get_the_gradient_of_w_through_the_own_forward(case: str) -> None:
    make, x = EXAMPLES[case]
    layer = sr.reparameterize(make(), 3, spectrum="free").double()
    x = x.double() if x.is_floating_point() else x
    dense = sr.decompress(layer)
    layer(x).square().sum().backward()
    dense(x).square().sum().backward()
    core = layer.right[0]
    (wanted,) = torch.autograd.grad((layer.weight * dense.weight.grad).sum(), core)
    torch.testing.assert_close(core.grad, wanted)


def test_a_class_that_overrides_nothing_is_applied_like_its_base() -> None:
    layer = sr.reparameterize(Tagged(12, 18), 3)
    assert layer.applications == sr.reparameterize(nn.Linear(12, 18), 3).applications


def test_an_own_forward_is_one_node_of_a_trace() -> None:
    model, x = sr.reparameterize(nn.Sequential(Twice(3, 4, 3), nn.ReLU()), 2), torch.randn(1, 3, 5, 5)
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x))
    assert [node.op for node in traced.graph.nodes].count("call_module") == 2


def test_it_is_a_decorator_and_registering_twice_changes_nothing() -> None:
    from sttp_riemann.layers import LAYERS

    row = LAYERS[Tagged]
    assert sr.register_layer(Tagged) is Tagged
    assert LAYERS[Tagged] is row
    assert sr.register_layer(nn.Linear) is nn.Linear


def test_moments_are_not_measured_where_the_forward_is_not_known() -> None:
    moments = sr.input_moments(nn.Sequential(Tagged(4, 4), nn.Linear(4, 4)), [torch.randn(8, 4)])
    assert set(moments) == {"0", "1"}
    assert not sr.input_moments(nn.Sequential(Twice(3, 4, 3)), [torch.randn(1, 3, 5, 5)])


def test_a_weight_of_another_shape_is_refused_before_anything_changes() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Odd())
    with pytest.raises(ValueError, match=r"layer '1' \(Odd\) is \(4, 6\), not as its base class stores it; exclude"):
        sr.reparameterize(model, 2)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("kind", [nn.GRU, nn.LayerNorm, "Linear", 3, nn.Linear(2, 2), dict])
def test_what_is_no_layer_that_can_be_reached_is_refused_in_one_line(kind: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"kind must (be a class|derive from a layer)") as told:
        sr.register_layer(kind)
    assert len(str(told.value)) < 300


class Writing(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        self.weight.data.clamp_(-1, 1)
        return F.linear(input, self.weight)


def test_a_forward_that_writes_into_its_weight_is_refused_with_the_remedy() -> None:
    layer = sr.reparameterize(sr.register_layer(Writing)(4, 4), 2)
    with pytest.raises(RuntimeError, match=r"sr\.set_weight"):
        layer(torch.randn(2, 4))


def test_a_normalizer_free_network_of_timm_is_reached() -> None:
    from timm.layers import ScaledStdConv2d
    from timm.models import nfnet

    def made() -> nn.Module:
        torch.manual_seed(0)
        config = nfnet._nfres_cfg(depths=(1, 1, 1, 1), channels=(16, 16, 16, 16))
        return nfnet.NormFreeNet(config, num_classes=4)

    with pytest.warns(UserWarning, match=r"sr\.register_layer makes a class known: stem"):
        assert sr.compression(sr.reparameterize(made(), 4)).reached < 5
    sr.register_layer(ScaledStdConv2d)
    model, x = made().eval(), torch.randn(1, 3, 32, 32)
    wanted = model(x)
    sr.reparameterize(model, 1.0, init="dense")
    torch.testing.assert_close(model(x), wanted, rtol=1e-3, atol=1e-4)
    assert sr.compression(model).reached > 90
    assert len(spectral_layers(model)) > 10
