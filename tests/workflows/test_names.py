"""Names of parameters read as a person would write them."""

from __future__ import annotations

import geoopt
import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import PATHS, VARIANTS, spectral


def small() -> nn.Module:
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(4, 8, 3))
    model.add_module("head", nn.Linear(8, 6))
    return model


SIDES = {
    "sttp": {
        "conv1": (["left.0"], ["right.0", "right.1", "right.2"]),
        "head": (["left.0"], ["right.0"]),
    },
    "svdp": {"conv1": (["left.0"], ["right.0"]), "head": (["left.0"], ["right.0"])},
}


@VARIANTS
def test_parameters_are_named_by_layer_side_and_number(method: str, frames: str) -> None:
    """Outer cores that are the identity are left out."""
    names = set(dict(spectral(small(), frames, rank=4, method=method).named_parameters()))
    cores = {f"{layer}.{name}" for layer, sides in SIDES[method].items() for side in sides for name in side}
    assert names == cores | {f"{layer}.{name}" for layer in SIDES[method] for name in ("spectrum", "bias")}


def test_numbers_go_from_the_outer_end_to_the_spectrum() -> None:
    layer = spectral(small(), "riemannian", rank=4).conv1
    left, right = ([frame.shape for frame in side.parameters()] for side in (layer.left, layer.right))
    assert left == [(8, 4)]
    assert right == [(9, 4), (8, 4), (8, 4)]


def test_on_the_riemannian_path_each_core_is_a_point_of_its_manifold() -> None:
    layer = spectral(small(), "riemannian", rank=4).conv1
    for frame in (*layer.left.parameters(), *layer.right.parameters()):
        assert isinstance(frame, geoopt.ManifoldParameter)
        assert isinstance(frame.manifold, sr.PolarStiefel)
        rows, columns = frame.shape
        assert rows >= columns
        torch.testing.assert_close(frame.T @ frame, torch.eye(columns), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spectrum", ["learned", "free", "identity"])
@PATHS
def test_a_spectrum_is_a_parameter_unless_it_is_the_identity(frames: str, spectrum: str) -> None:
    layer = spectral(small(), frames, rank=4, spectrum=spectrum).conv1
    if spectrum == "identity":
        assert layer.spectrum is None
        assert "spectrum" not in dict(layer.named_parameters())
    else:
        assert layer.spectrum.shape == (4,)


@PATHS
def test_nothing_of_a_weight_lives_outside_its_layer(frames: str) -> None:
    model = spectral(small(), frames, rank=4)
    assert {name.split(".")[0] for name in model.state_dict()} == {"conv1", "head"}
    assert [name for name, _ in model.named_children()] == ["conv1", "head"]
    assert spectral(nn.Linear(8, 6), frames, rank=4).state_dict().keys() == {
        name.removeprefix("head.") for name in model.state_dict() if name.startswith("head.")
    }
