"""The verbs on whole models."""

from __future__ import annotations

import copy
import math

import numpy
import pytest
import torch
from hypothesis import given
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import FRAMES
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.trains.spectrum import SPECTRA as KINDS_OF_SPECTRUM
from sttp_riemann.trains.start import INITS
from tests.strategies import FRAMES as FRAME_KINDS
from tests.strategies import LAYER_KINDS, METHODS, SEEDS, SPECTRA, disturb, small_network, weights_of

METHOD_AND_FRAMES = [(m, f) for m in ("sttp", "svdp") for f in FRAMES]


@pytest.mark.parametrize("application", ["auto", "weight", "factored"])
@pytest.mark.parametrize(("method", "frames"), METHOD_AND_FRAMES)
@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_the_decompressed_model_computes_the_same(kind: str, method: str, frames: str, application: str) -> None:
    make, size = LAYER_KINDS[kind]
    layer = sr.reparameterize(make(), 4, method, frames, init="orthogonal")
    layer.application = application
    dense, x = sr.decompress(layer), torch.randn(size)
    assert type(dense) is type(make())
    torch.testing.assert_close(dense(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_the_factored_form_computes_the_same_with_ordinary_layers_only(kind: str) -> None:
    make, size = LAYER_KINDS[kind]
    model = sr.reparameterize(nn.Sequential(make(), nn.Identity()), 2, init="orthogonal")
    frozen, x = sr.decompress(model, factored=True), torch.randn(size)
    torch.testing.assert_close(frozen(x), model(x), rtol=1e-5, atol=1e-5)
    kinds = {type(m) for m in frozen.modules()}
    assert not any(k.__module__.startswith("sttp_riemann") for k in kinds)
    shape = model[0].shape
    smaller = 2 * (shape.d_out + shape.d_in) < shape.d_out * shape.d_in and shape.rank == 2
    assert isinstance(frozen[0], nn.Sequential) == smaller


def test_the_factored_form_of_an_embedding_and_of_a_lone_layer() -> None:
    layer = sr.reparameterize(nn.Embedding(20, 12), 2, init="orthogonal")
    words = torch.tensor([[1, 3], [7, 3]])
    torch.testing.assert_close(sr.decompress(layer, factored=True)(words), layer(words))


def test_the_factored_form_leaves_attention_with_the_weight_that_it_reads() -> None:
    attention = sr.reparameterize(nn.MultiheadAttention(16, 4), 2)
    x = torch.randn(5, 2, 16)
    torch.testing.assert_close(sr.decompress(attention, factored=True)(x, x, x)[0], attention(x, x, x)[0])


@pytest.mark.parametrize("spectrum", ["learned", "identity"])
@pytest.mark.parametrize(("method", "frames"), METHOD_AND_FRAMES)
@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_the_largest_singular_value_is_one(kind: str, method: str, frames: str, spectrum: str) -> None:
    layer = disturb(sr.reparameterize(LAYER_KINDS[kind][0](), 4, method, frames, spectrum, "orthogonal"))
    matrix = layer.to_matrix(layer.weight.detach())
    assert abs(float(torch.linalg.matrix_norm(matrix.double(), 2)) - 1) < 1e-5
    assert layer.weight.shape == LAYER_KINDS[kind][0]().weight.shape


@pytest.mark.parametrize("application", ["weight", "factored"])
def test_an_embedding_looks_up_rows_of_w_and_its_padding_gets_no_gradient(application: str) -> None:
    layer = sr.reparameterize(nn.Embedding(20, 12, padding_idx=3), 4, "svdp", init="orthogonal", spectrum="free")
    layer.application = application
    words = torch.tensor([[1, 3], [7, 3]])
    torch.testing.assert_close(layer(words), layer.weight[words])
    torch.testing.assert_close(sr.decompress(layer)(words), layer(words))
    layer(torch.tensor([3, 3])).square().sum().backward()
    assert all(float(p.grad.abs().max()) == 0 for p in layer.parameters())


@given(METHODS, FRAME_KINDS, SPECTRA, SEEDS)
def test_singular_values_are_those_of_w(method: str, frames: str, spectrum: str, seed: int) -> None:
    model = disturb(sr.reparameterize(small_network().double(), 4, method, frames, spectrum, "orthogonal"), seed)
    for name, values in sr.singular_values(model).items():
        layer = model.get_submodule(name)
        true = torch.linalg.svdvals(layer.to_matrix(layer.weight.detach()))[: len(values)]
        torch.testing.assert_close(values, true, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("spectrum", ["learned", "free"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_dense_initialization_at_full_rank_keeps_the_weights(method: str, spectrum: str, frames: str) -> None:
    model, x = small_network().eval(), torch.randn(2, 3, 8, 8)
    expected = model(x)
    sr.reparameterize(model, 10**4, method, frames, spectrum, "dense")
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
    assert all(row.dense_error < 1e-5 for row in sr.compression(model).layers)


def test_the_error_of_dense_initialization_falls_with_rank_and_is_the_true_one() -> None:
    dense = nn.Linear(32, 24)
    errors = []
    for rank in (1, 4, 12, 24):
        layer = sr.reparameterize(copy.deepcopy(dense), rank, init="dense", spectrum="free")
        errors.append(layer.dense_error)
        true = float((layer.weight - dense.weight).detach().norm() / dense.weight.detach().norm())
        assert abs(errors[-1] - true) < 1e-6
    assert errors == sorted(errors, reverse=True)


def test_a_bound_other_than_one_is_the_largest_singular_value() -> None:
    layer = sr.reparameterize(nn.Linear(12, 8), 4, spectral_bound=2.5)
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(2.5, rel=1e-5)
    layer = sr.reparameterize(nn.Linear(12, 8), 4, init="dense", spectral_bound=1.0)
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1.0, rel=1e-5)


def test_noisy_identity_starts_near_the_identity() -> None:
    layer = sr.reparameterize(nn.Linear(8, 8), 8, init="noisy_identity")
    assert float((layer.weight - torch.eye(8)).detach().abs().max()) < 2e-3
    assert float((layer.weight - torch.eye(8)).detach().abs().max()) > 0


def test_the_default_start_is_orthogonal() -> None:
    default, named = (sr.reparameterize(nn.Linear(12, 8), 4, **given) for given in ({}, {"init": "orthogonal"}))
    assert torch.equal(default.weight, named.weight)


@pytest.mark.parametrize("rank", [8, 16, 32])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_a_convolution_sees_all_its_channels_from_an_orthogonal_start_and_few_near_the_identity(
    method: str, rank: int
) -> None:
    def channels_seen(init: str) -> int:
        layer = sr.reparameterize(nn.Conv2d(32, 32, 3), rank, method, init=init)
        largest = layer.weight.detach().abs().amax((0, 2, 3))
        return int((largest > 0.01 * largest.max()).sum())

    assert channels_seen("orthogonal") == 32
    # Columns of the identity fill one channel's nine kernel positions after the other
    assert channels_seen("noisy_identity") == math.ceil(rank / 9)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("spectrum", KINDS_OF_SPECTRUM)
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_both_paths_start_from_the_same_weights(method: str, spectrum: str, init: str) -> None:
    dense = small_network()
    versions = [
        weights_of(sr.reparameterize(copy.deepcopy(dense), 4, method, f, spectrum, init, seed=5)) for f in FRAMES
    ]
    for weights in zip(*versions, strict=True):
        for other in weights[1:]:
            torch.testing.assert_close(weights[0], other, rtol=0, atol=2e-6)


def test_seeds_differ_and_repeat() -> None:
    one, two, again = (weights_of(sr.reparameterize(small_network(), 4, init="orthogonal", seed=s)) for s in (0, 1, 0))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# -- bad input --------------------------------------------------------------------------------------------------------


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Conv1d(8, 8, 1), nn.ConvTranspose1d(8, 8, 1))
    model[1].weight = model[0].weight
    return model


def _integer() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    return nn.Sequential(layer)


def _not_finite() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    return model


def _named_like_ours() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].spectrum = "mine"
    return model


REFUSED = {
    "rank 0": (small_network, {"rank": 0}, "rank must be a whole number of at least 1, got 0"),
    "negative rank": (small_network, {"rank": -2}, "at least 1, got -2"),
    "fractional rank": (small_network, {"rank": 2.5}, "at least 1, got 2.5"),
    "unknown exclude": (small_network, {"exclude": ("conv1",)}, "exclude names 'conv1', which matches no layer"),
    "exclude of a layer that cannot change": (small_network, {"exclude": "1"}, "'1', which matches no layer"),
    "everything excluded": (small_network, {"exclude": "*"}, "no layers to change, as exclude leaves all of them"),
    "no layers": (nn.ReLU, {}, "the model has no layers to change; reparameterize reaches Linear"),
    "unknown method": (small_network, {"method": "cp"}, "unknown method 'cp'; choose one of 'sttp', 'svdp'"),
    "unknown frames": (small_network, {"frames": "cayley"}, "unknown frames 'cayley'; choose one of 'riemannian'"),
    "unknown spectrum": (small_network, {"spectrum": "flat"}, "unknown spectrum 'flat'"),
    "unknown init": (small_network, {"init": "zeros"}, "unknown init 'zeros'"),
    "unknown kernel modes": (small_network, {"kernel_modes": "odd"}, "unknown kernel_modes 'odd'"),
    "negative bound": (small_network, {"spectral_bound": -1.0}, "spectral_bound must be a positive number"),
    "a bound beyond float32": (small_network, {"spectral_bound": 1e40}, "spectral_bound must be a positive number"),
    "a bound that is no number": (small_network, {"spectral_bound": [1.0]}, "spectral_bound must be a positive number"),
    "an indefinite moment": (
        lambda: nn.Linear(2, 2),
        {"init": "dense", "moments": {"": torch.tensor([[3.0, 0.0], [0.0, -1.0]])}},
        "layer '': the moment is not a second moment",
    ),
    "zero weight with a bound": (
        lambda: nn.Sequential(nn.Linear(2, 2)).apply(_zero),
        {"init": "dense", "spectral_bound": 1.0},
        "layer '0' is all zero, so a learned spectrum has no scale",
    ),
    "moments of random frames": (
        small_network,
        {"moments": {"0": torch.eye(2)}},
        "they need init='dense'",
    ),
    "moments of no layer": (
        small_network,
        {"init": "dense", "moments": {"none": torch.eye(2)}},
        "moments names 'none', and the model has no such layer",
    ),
    "moments of another shape": (
        small_network,
        {"init": "dense", "moments": {"0": torch.eye(2)}},
        r"the moment of layer '0' is \(2, 2\), not",
    ),
    "an attribute like ours": (_named_like_ours, {}, "layer '0' .Linear. has an attribute 'spectrum' already"),
    "integer weight": (_integer, {}, "weight of layer '0' \\(Linear\\) is torch.int8, not floating point; exclude"),
    "nan with dense": (_not_finite, {"init": "dense"}, "layer '1': the weight holds NaN or infinite values"),
    "zero weight with dense": (
        lambda: nn.Sequential(nn.utils.skip_init(nn.Linear, 2, 2).requires_grad_(True)).apply(_zero),
        {"init": "dense"},
        "layer '0' is all zero",
    ),
    "tied weights": (_tied, {}, "layers '0' and '1' share one weight"),
    "old spectral norm": (
        lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4))),
        {},
        "weight of layer '0' \\(Linear\\) is not a plain parameter",
    ),
    "embedding with max_norm": (lambda: nn.Embedding(4, 4, max_norm=1.0), {}, "an embedding with max_norm"),
    "lazy layer": (lambda: nn.LazyLinear(4), {}, "no layers to change"),
}


def _zero(module: nn.Module) -> None:
    for p in module.parameters(recurse=False):
        p.data.zero_()


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_named_and_leaves_the_model_as_it_was(case: str) -> None:
    make, options, message = REFUSED[case]
    model = make()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        sr.reparameterize(model, **{"rank": 2, **options})
    assert list(model.state_dict()) == before


def test_a_layer_with_a_parametrization_is_left_with_a_warning() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match="left as they are, parametrized by something else: 0.param"):
        sr.reparameterize(model, 2)
    assert list(spectral_layers(model)) == ["1"]


def test_ranks_of_numpy_are_ranks() -> None:
    assert sr.reparameterize(nn.Linear(8, 8), numpy.int64(4)).rank == 4
    assert sr.reparameterize(nn.Linear(8, 8), numpy.float32(0.5)).rank == 4


def test_an_error_at_a_later_layer_leaves_the_earlier_ones() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = model[0].weight
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer '1'"):
        sr.reparameterize(model, 2, init="dense")
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]
    assert model[0].weight is before


def test_reparameterizing_twice_is_refused() -> None:
    model = sr.reparameterize(small_network(), 2)
    with pytest.raises(ValueError, match="layer '0' is reparameterized already, and nothing else is left to change"):
        sr.reparameterize(model, 2)


@pytest.mark.parametrize(
    "verb",
    [
        sr.decompress,
        sr.gauge_fix,
        sr.canonicalize,
        sr.compression,
        sr.singular_values,
        sr.spectral_penalty,
        sr.orthogonality_error,
        lambda m: sr.convert_frames(m, "householder"),
    ],
)
def test_a_dense_model_is_refused_by_every_verb(verb) -> None:
    with pytest.raises(ValueError, match="no reparameterized layer; call reparameterize first"):
        verb(small_network())


def test_exclusions_are_names_parents_and_patterns() -> None:
    model = nn.ModuleDict({"head": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "tail": nn.Linear(4, 4)})
    for exclude, left in ((("head.0",), ["head.1", "tail"]), ("head", ["tail"]), ("*.1", ["head.0", "tail"])):
        assert list(spectral_layers(sr.reparameterize(copy.deepcopy(model), 2, exclude=exclude))) == left


def test_unknown_kinds_are_refused_by_the_verbs() -> None:
    model = sr.reparameterize(nn.Linear(4, 4), 2)
    with pytest.raises(ValueError, match="unknown frames 'cayley'"):
        sr.convert_frames(model, "cayley")
    with pytest.raises(ValueError, match="unknown kind 'l2'"):
        sr.spectral_penalty(model, "l2")
    with pytest.raises(ValueError, match="identity spectrum has nothing to penalize"):
        sr.spectral_penalty(sr.reparameterize(nn.Linear(4, 4), 2, spectrum="identity"))


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("kernel", [(6, 4), (1, 6), (3, 3)])
def test_prime_kernel_modes_keep_a_dense_weight_of_full_rank(frames: str, kernel: tuple[int, int]) -> None:
    layer = nn.Conv2d(4, 6, kernel)
    before = layer.weight.detach().clone()
    spectral = sr.reparameterize(layer, 10**4, frames=frames, init="dense", kernel_modes="prime")
    torch.testing.assert_close(spectral.weight.detach(), before, rtol=1e-5, atol=1e-6)
