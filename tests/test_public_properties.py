"""What every public function promises, over kinds of layer, shapes, ranks, frames, spectra and dtypes."""

from __future__ import annotations

import copy

import geoopt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.trains.shape import layer_shape
from tests.strategies import Drawn, disturb, reparameterized

WITH_VALUES = st.sampled_from(["learned", "free"])


def _assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@given(reparameterized())
def test_a_decompressed_model_has_ordinary_layers_of_the_same_outputs(drawn: Drawn) -> None:
    before = drawn.outputs(drawn.model)
    for factored in (False, True):
        plain = sr.decompress(drawn.model, factored=factored)
        _assert_close(drawn.outputs(plain), before, 10 * drawn.tolerance)
        assert not any(type(m).__module__.startswith("sttp_riemann") for m in plain.modules())
    _assert_close(drawn.outputs(drawn.model), before, 0)


@given(reparameterized())
def test_singular_values_are_those_of_every_weight(drawn: Drawn) -> None:
    values = sr.singular_values(drawn.model)
    assert list(values) == [str(index) for index in range(len(drawn.model))]
    for found, weight in zip(values.values(), drawn.weights(), strict=True):
        true = torch.linalg.svdvals(weight)
        torch.testing.assert_close(found, true[: len(found)], rtol=0, atol=10 * drawn.tolerance)
        assert len(found) == min(*weight.shape, drawn.rank)
        assert float(true[len(found) :].abs().sum()) < 100 * drawn.tolerance
        if drawn.spectrum != "free":
            assert float(found[0]) == pytest.approx(1, abs=drawn.tolerance)


@given(reparameterized())
def test_compression_counts_what_the_shapes_have(drawn: Drawn) -> None:
    table = sr.compression(drawn.model)
    for row, layer, weight in zip(table.layers, drawn.model, drawn.weights(), strict=True):
        kernel = tuple(getattr(layer, "kernel_size", ()))
        d_in = (weight.shape[1] // int(torch.tensor(kernel).prod()), *kernel)
        shape = layer_shape(weight.shape[0], d_in, drawn.rank, drawn.method, drawn.spectrum == "identity")
        assert (row.dof, row.rank) == (shape.dof(drawn.spectrum != "identity"), shape.rank)
        assert row.dense == layer.weight.numel()
    biases = sum(layer.bias.numel() for layer in drawn.model if getattr(layer, "bias", None) is not None)
    assert table.other == biases
    assert table.ratio == pytest.approx(100 * (table.dof + biases) / (table.dense + biases))


@given(reparameterized())
def test_conversion_of_frames_keeps_every_weight_both_ways(drawn: Drawn) -> None:
    before = drawn.weights()
    for frames in ("householder", "riemannian", "householder"):
        sr.convert_frames(drawn.model, frames)
        _assert_close(drawn.weights(), before, drawn.tolerance)
        on_manifold = [isinstance(p, geoopt.ManifoldParameter) for p in drawn.model.parameters()]
        assert any(on_manifold) == (frames == "riemannian")
        assert sr.orthogonality_error(drawn.model) < drawn.tolerance


@given(reparameterized())
def test_gauge_fixing_keeps_every_weight_and_has_nothing_to_do_twice(drawn: Drawn) -> None:
    before, values = drawn.weights(), sr.singular_values(drawn.model)
    state = copy.deepcopy(sr.gauge_fix(drawn.model).state_dict())
    _assert_close(drawn.weights(), before, drawn.tolerance)
    assert all(torch.equal(a, values[name]) for name, a in sr.singular_values(drawn.model).items())
    _assert_close(list(sr.gauge_fix(drawn.model).state_dict().values()), list(state.values()), drawn.tolerance)


@given(reparameterized())
def test_the_canonical_form_keeps_every_weight_orders_the_values_and_is_idempotent(drawn: Drawn) -> None:
    before = drawn.weights()
    sr.canonicalize(drawn.model)
    _assert_close(drawn.weights(), before, drawn.tolerance)
    for layer in drawn.model:
        values = layer.core_frames()[1]
        assert (values >= 0).all()
        assert (values[:-1] >= values[1:]).all()
    state = copy.deepcopy(drawn.model.state_dict())
    _assert_close(list(sr.canonicalize(drawn.model).state_dict().values()), list(state.values()), 100 * drawn.tolerance)


@given(reparameterized())
def test_the_orthogonality_error_is_its_definition(drawn: Drawn) -> None:
    with torch.no_grad():
        for p in drawn.model.parameters():
            if isinstance(p, geoopt.ManifoldParameter):
                p.mul_(1.01)
    errors = [0.0]
    for layer in drawn.model:
        left, _, right = layer.core_frames()
        for core in (core.detach().double() for core in (*left, *right)):
            errors.append(float((core.mT @ core - torch.eye(core.shape[1], dtype=core.dtype)).abs().max()))
    assert sr.orthogonality_error(drawn.model) == pytest.approx(max(errors), abs=1e-12)


@given(reparameterized())
def test_a_state_dict_brings_the_same_weights_into_another_model(drawn: Drawn) -> None:
    other = drawn.again()
    drawn.outputs(other)
    other.load_state_dict(copy.deepcopy(drawn.model.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(drawn.outputs(other), drawn.outputs(drawn.model), strict=True))
    assert sr.compression(other) == sr.compression(drawn.model)


@given(reparameterized(WITH_VALUES))
def test_the_d_optimal_penalty_is_the_mean_of_minus_log(drawn: Drawn) -> None:
    values = torch.cat(list(sr.singular_values(drawn.model).values())).double()
    penalty = sr.spectral_penalty(drawn.model)
    assert penalty.item() == pytest.approx(float(-values.log().mean()), rel=1e-5, abs=1e-5)
    (gradient,) = torch.autograd.grad(penalty, drawn.model[0].spectrum)
    assert torch.isfinite(gradient).all()


@given(reparameterized(WITH_VALUES))
def test_the_half_normal_penalty_is_its_definition(drawn: Drawn) -> None:
    terms = []
    for values in sr.singular_values(drawn.model).values():
        s = [*values.double().tolist(), 0.0]
        rank = len(s) - 1
        density = [1 / (rank * (s[i] - s[i + 1]) + 1e-3) for i in range(rank)]
        reference = [2 / (0.1 * torch.pi * 2) ** 0.5 * torch.e ** (-((1 - x) ** 2) / 0.2) for x in s[:rank]]
        terms.append(sum(torch.log(torch.tensor(density)) - torch.log(torch.tensor(reference))) / rank)
    expected = float(sum(terms) / len(terms))
    assert sr.spectral_penalty(drawn.model, "half_normal").item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(reparameterized(), st.sampled_from([(sr.RiemannianAdam, 1.0), (sr.RiemannianSGD, 1e-2)]), st.floats(1e-4, 1.0))
def test_steps_leave_frames_orthonormal_and_weights_finite(
    drawn: Drawn, kind: tuple[type[torch.optim.Optimizer], float], share: float
) -> None:
    make, largest = kind
    optimizer = make(drawn.model.parameters(), lr=share * largest)
    for _ in range(2):
        sum(layer(x).square().sum() for layer, x in zip(drawn.model, drawn.inputs, strict=True)).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert sr.orthogonality_error(drawn.model) < drawn.tolerance
        assert all(torch.isfinite(weight).all() for weight in drawn.weights())


@given(reparameterized())
def test_reparameterizing_what_was_decompressed_gives_the_weights_back(drawn: Drawn) -> None:
    before, plain = drawn.weights(), sr.decompress(drawn.model)
    for frames in ("riemannian", "householder"):
        again = sr.reparameterize(copy.deepcopy(plain), drawn.rank, drawn.method, frames, "free", "dense")
        found = [layer.to_matrix(layer.weight.detach()) for layer in again]
        _assert_close(found, before, 100 * drawn.tolerance)
        assert max(row.dense_error for row in sr.compression(again).layers) < 100 * drawn.tolerance


def test_disturbing_moves_every_parameter() -> None:
    model = sr.reparameterize(nn.Linear(12, 18), 4, init="orthogonal")
    before = [p.detach().clone() for p in model.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, disturb(model).parameters(), strict=True))
