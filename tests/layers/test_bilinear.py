"""Bilinear layers compute x1^T W_k x2, by name or place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sttp_riemann as sr


@pytest.mark.parametrize("application", ["auto", "weight", "factored"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_output_is_the_bilinear_form_of_w(bias: bool, application: str) -> None:
    layer = sr.reparameterize(nn.Bilinear(4, 6, 10, bias).double(), 3)
    layer.application = application
    a, b = torch.randn(2, 5, 4).double(), torch.randn(2, 5, 6).double()
    wanted = torch.einsum("...i,kij,...j->...k", a, layer.weight, b) + (layer.bias if bias else 0)
    torch.testing.assert_close(layer(a, b), wanted)
    torch.testing.assert_close(layer(input2=b, input1=a), wanted)


def test_a_trace_keeps_the_layer_whole() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x, x) + self.layer(input1=x, input2=x)

    model = sr.reparameterize(Both(), 2)
    traced, x = torch.fx.symbolic_trace(model), torch.randn(5, 4)
    torch.testing.assert_close(traced(x), model(x))
    assert sum(node.op == "call_module" for node in traced.graph.nodes) == 2


def test_decompress_keeps_it_whole_as_a_sequence_takes_one_input() -> None:
    model = nn.ModuleList([nn.Bilinear(8, 8, 8)])
    assert type(sr.decompress(sr.reparameterize(model, 1), factored=True)[0]) is nn.Bilinear


def test_a_trace_with_a_constant_first_input_has_the_layer_as_one_node() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = sr.reparameterize(nn.Bilinear(4, 4, 3), 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.ones(2, 4), x)

    model, x = Model(), torch.randn(2, 4)
    traced = torch.fx.symbolic_trace(model)
    assert [node.op for node in traced.graph.nodes].count("call_module") == 1
    assert torch.equal(traced(x), model(x))
