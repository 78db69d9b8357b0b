from __future__ import annotations

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.studies.probing import differential, drift
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.model.measures import spectral_layers


def spectral_layer(rank: int, **options: str) -> SpectralLayer:
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(6, 8)).double()
    sr.reparameterize(model, rank, init="orthogonal", **options)
    layer = spectral_layers(model)["1"]
    if layer.spectrum is not None:
        with torch.no_grad():
            layer.spectrum.copy_(torch.linspace(2.0, 0.5, len(layer.spectrum)))
    return layer


def test_unit_vectors_move_their_outer_product_by_as_much_as_they_move():
    """W = u v^T: dW = du v^T + u dv^T, and du is orthogonal to u, dv to v."""
    values = differential(spectral_layer(1, method="svdp", spectrum="identity"))
    torch.testing.assert_close(values, torch.ones(8 - 1 + 6 - 1, dtype=torch.float64))


def test_a_singular_value_scales_what_its_vectors_do():
    """W = s u v^T: dW = ds u v^T + s (du v^T + u dv^T)."""
    layer = spectral_layer(1, method="svdp", spectrum="free")
    s = float(torch.linalg.svdvals(layer.weight.detach())[0])
    expected = torch.tensor([1.0] + [s] * 12, dtype=torch.float64).sort(descending=True).values
    torch.testing.assert_close(differential(layer), expected)


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize("spectrum", ["identity", "learned", "free"])
def test_every_degree_of_freedom_moves_the_weight(method, frames, spectrum):
    layer = spectral_layer(3, method=method, frames=frames, spectrum=spectrum)
    values = differential(layer)
    assert len(values) == layer.dof - (spectrum == "learned")
    assert values[-1] > 1e-6 * values[0]


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_short_descent_in_float32_stays_by_that_in_float64(frames):
    assert 0 < drift("sttp", frames, 4, 20) < 1e-4


def test_seeds_differ():
    assert drift("sttp", "riemannian", 4, 5, seed=0) != drift("sttp", "riemannian", 4, 5, seed=1)
