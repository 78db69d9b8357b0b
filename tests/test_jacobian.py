"""Nothing redundant, nothing missing: the rank of the differential of W equals the degrees of freedom."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.layers import SpectralLayer

# rows, columns (channels, kernel), rank: powers of two, primes, single rows and columns, full rank and beyond
SHAPES = [
    (4, (4,), 2),
    (8, (6,), 3),
    (6, (8,), 3),
    (12, (8,), 4),
    (5, (7,), 3),
    (7, (12,), 99),
    (12, (12,), 99),
    (1, (8,), 4),
    (8, (1,), 4),
    (4, (2, 3), 3),
    (8, (4, 3, 3), 2),
    (6, (3, 2, 2), 5),
    (9, (6, 2), 4),
    (16, (4,), 1),
]


def _generic_layer(d_out: int, d_in: tuple[int, ...], rank: int, **options: str) -> SpectralLayer:
    """A layer in float64 with random frames and distinct singular values."""
    makers = [nn.Linear, lambda i, o: nn.Conv1d(i, o, d_in[1]), lambda i, o: nn.Conv2d(i, o, d_in[1:])]
    layer = makers[len(d_in) - 1](d_in[0], d_out).double()
    sr.reparameterize(layer, rank, init="orthogonal", seed=3, **options)
    if layer.spectrum is not None:
        with torch.no_grad():
            layer.spectrum.copy_(torch.linspace(2.0, 0.7, len(layer.spectrum)))
    return layer


def _jacobian(layer: SpectralLayer) -> tuple[Tensor, dict[str, slice]]:
    """d W / d (all parameters), one column a number."""
    own = {id(p) for p in layer.factor_parameters()}
    found = {name: p for name, p in layer.named_parameters() if id(p) in own}
    names, values = list(found), list(found.values())
    ends = torch.tensor([p.numel() for p in values]).cumsum(0).tolist()
    at = {n: slice(e - p.numel(), e) for n, p, e in zip(names, values, ends, strict=True)}

    def weight(flat: Tensor) -> Tensor:
        parameters = {n: flat[at[n]].view(p.shape) for n, p in zip(names, values, strict=True)}
        return torch.func.functional_call(_Weight(layer), {f"layer.{n}": v for n, v in parameters.items()})

    flat = torch.cat([p.detach().flatten() for p in values]) if values else torch.zeros(0, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(weight, flat)
    return jacobian.reshape(-1, len(flat)), at


class _Weight(nn.Module):
    def __init__(self, layer: SpectralLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return self.layer.to_matrix(self.layer.built_weight())


def _rank(matrix: Tensor) -> int:
    if 0 in matrix.shape:
        return 0
    values = torch.linalg.svdvals(matrix)
    return int((values > 1e-9 * values[0].clamp_min(1e-300)).sum()) if values[0] > 1e-12 else 0


def _expected(layer: SpectralLayer) -> int:
    """The scale of S has no effect where it is divided by its maximum; a single value has no other freedom."""
    return layer.dof - (1 if layer.spectrum_kind == "learned" else 0)


@pytest.mark.parametrize("spectrum", ["identity", "learned", "free"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize(("d_out", "d_in", "rank"), SHAPES)
def test_householder_parameters_are_as_many_as_dof_and_independent(
    d_out: int, d_in: tuple[int, ...], rank: int, method: str, spectrum: str
) -> None:
    layer = _generic_layer(d_out, d_in, rank, method=method, spectrum=spectrum, frames="householder")
    jacobian, _ = _jacobian(layer)
    assert sum(p.numel() for p in layer.factor_parameters()) == layer.dof == layer.stored
    assert _rank(jacobian) == _expected(layer)


@pytest.mark.parametrize("spectrum", ["identity", "learned", "free"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize(("d_out", "d_in", "rank"), SHAPES)
def test_the_differential_on_the_riemannian_path_has_the_same_rank(
    d_out: int, d_in: tuple[int, ...], rank: int, method: str, spectrum: str
) -> None:
    layer = _generic_layer(d_out, d_in, rank, method=method, spectrum=spectrum, frames="riemannian")
    jacobian, at = _jacobian(layer)
    columns = []
    for name, where in at.items():
        block, parameter = jacobian[:, where], layer.get_parameter(name)
        columns.append(block @ _tangent_basis(parameter) if hasattr(parameter, "manifold") else block)
    assert _rank(torch.cat(columns, 1)) == _expected(layer)


def _tangent_basis(points: Tensor) -> Tensor:
    """Projections of all unit vectors to the tangent space of the product of Stiefel manifolds."""
    unit = torch.eye(points.numel(), dtype=points.dtype).view(-1, *points.shape)
    x = points.detach()
    xtu = x.mT @ unit
    return (unit - x @ (xtu + xtu.mT) / 2).reshape(points.numel(), -1).mT


def test_svdp_with_a_free_spectrum_has_the_dimension_of_the_set_of_matrices_of_its_rank() -> None:
    layer = _generic_layer(7, (9,), 3, method="svdp", spectrum="free", frames="householder")
    assert layer.dof == 3 * (7 + 9 - 3)
