"""The verbs on whole models."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sttp_riemann as sr
from sttp_riemann.frames import FRAMES
from sttp_riemann.tt import absorb
from sttp_riemann.views import spectral_layers
from tests.strategies import FRAMES as FRAME_KINDS
from tests.strategies import LAYER_KINDS, METHODS, SEEDS, SPECTRA, disturb, random_frame, small_network

METHOD_AND_FRAMES = [(m, f) for m in ("sttp", "svdp") for f in ("riemannian", "householder")]


def _weights(model: nn.Module) -> list[torch.Tensor]:
    return [layer.weight.detach().clone() for layer in spectral_layers(model).values()]


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
    shape = model[0].factors.shapes[0]
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
    layer = sr.reparameterize(nn.Linear(8, 8), 8)
    assert float((layer.weight - torch.eye(8)).abs().max()) < 2e-3
    assert float((layer.weight - torch.eye(8)).abs().max()) > 0


@pytest.mark.parametrize("init", ["noisy_identity", "orthogonal", "identity", "dense"])
@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_both_paths_start_from_the_same_weights(method: str, spectrum: str, init: str) -> None:
    dense = small_network()
    versions = [
        _weights(sr.reparameterize(copy.deepcopy(dense), 4, method, f, spectrum, init, seed=5))
        for f in ("riemannian", "householder")
    ]
    for a, b in zip(*versions, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


def test_seeds_differ_and_repeat() -> None:
    one, two, again = (_weights(sr.reparameterize(small_network(), 4, init="orthogonal", seed=s)) for s in (0, 1, 0))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# -- conversion and gauge ---------------------------------------------------------------------------------------------


@given(METHODS, SPECTRA, SEEDS, st.sampled_from(["riemannian", "householder"]))
def test_conversion_there_and_back_keeps_w(method: str, spectrum: str, seed: int, start: str) -> None:
    model = disturb(sr.reparameterize(small_network(), 4, method, start, spectrum, "orthogonal", seed=seed), seed)
    before = _weights(model)
    other = "householder" if start == "riemannian" else "riemannian"
    for kind in (other, start):
        sr.convert_frames(model, kind)
        for a, b in zip(_weights(model), before, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", FRAMES)
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_conversion_after_training_keeps_w(method: str, start: str) -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(24, 36), nn.ReLU(), nn.Linear(36, 12)), 6, method, start)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=2e-2)
    x, y = torch.randn(64, 24), torch.randn(64, 12)
    for _ in range(50):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    before = _weights(model)
    for kind in ("householder" if start == "riemannian" else "riemannian", start):
        sr.convert_frames(model, kind)
        for a, b in zip(_weights(model), before, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spectrum", ["identity", "learned"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_a_householder_checkpoint_stores_exactly_dof_trainable_numbers(method: str, spectrum: str) -> None:
    dense = small_network()
    plain = sum(p.numel() for p in dense.parameters())
    model = sr.reparameterize(dense, 5, method, "householder", spectrum)
    table = sr.compression(model)
    trainable = {name for name, _ in model.named_parameters()}
    stored = sum(t.numel() for name, t in model.state_dict().items() if name in trainable)
    assert stored == table.dof + plain - table.dense
    assert table.stored == table.dof


def _turn_gauge(model: nn.Module, seed: int) -> None:
    """Random gauge moves on all inner bonds, and random orders and signs of the singular values."""
    for factors in {id(la.factors): la.factors for la in spectral_layers(model).values()}.values():
        layout, key = factors.layout, FRAMES["riemannian"].key
        cores = layout.unpack({n: b.point.data for n, b in factors.banks.items()}, key)
        for g, group in enumerate(layout.groups):
            for k in range(len(group.train.cores) - 1):
                inner = group.train.cores[k].inner
                q = random_frame(inner, inner, seed + k, batch=len(group.layers), dtype=cores[g][k].dtype)
                cores[g][k].copy_(cores[g][k] @ q)
                cores[g][k + 1].copy_(absorb(group.train, group.train.cores[k + 1], q, cores[g][k + 1]))
        values = dict(zip(layout.order, factors.spectra.S.data.split(factors.spectra.ranks), strict=True))
        for layer, s in values.items():
            generator = torch.Generator().manual_seed(seed + layer)
            order = torch.randperm(len(s), generator=generator)
            signs = [torch.randint(0, 2, (len(s),), generator=generator).to(s) * 2 - 1 for _ in range(2)]
            for at, sign in zip((layout.left_of[layer], layout.right_of[layer]), signs, strict=True):
                core = cores[at[0]][-1][at[1]]
                core.copy_(core[:, order] * sign)
            s.copy_(s[order] * signs[0] * signs[1] * 1.7)


@given(METHODS, SEEDS)
def test_equivalent_networks_become_equal_arrays(method: str, seed: int) -> None:
    model = disturb(sr.reparameterize(small_network().double(), 5, method, init="orthogonal", seed=seed), seed)
    turned = copy.deepcopy(model)
    _turn_gauge(turned, seed)
    for a, b in zip(_weights(turned), _weights(model), strict=True):
        torch.testing.assert_close(a, b)
    states = [sr.canonicalize(m).state_dict() for m in (model, turned)]
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-6, atol=1e-7)


@given(METHODS, FRAME_KINDS, SPECTRA, SEEDS)
def test_canonical_form_keeps_w_orders_s_and_is_idempotent(method: str, frames: str, spectrum: str, seed: int) -> None:
    model = disturb(sr.reparameterize(small_network().double(), 5, method, frames, spectrum, "orthogonal"), seed)
    before = _weights(model)
    state = copy.deepcopy(sr.canonicalize(model).state_dict())
    for a, b in zip(_weights(model), before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
    for layer in spectral_layers(model).values():
        s = layer.factors.spectra.values()[layer.factors.layout.order.index(layer.index)]
        assert (s[:-1] >= s[1:]).all()
        assert (s >= 0).all()
    for name, tensor in sr.canonicalize(model).state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=1e-8)


def test_canonical_forms_of_both_paths_are_the_same_network() -> None:
    model = disturb(sr.reparameterize(small_network().double(), 5, init="orthogonal"))
    converted = sr.convert_frames(copy.deepcopy(model), "householder")
    back = sr.convert_frames(sr.canonicalize(converted), "riemannian")
    expected = sr.canonicalize(model).state_dict()
    for name, tensor in sr.canonicalize(back).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_gauge_fixing_in_float32_lands_in_st_u_and_moves_w_by_rounding(method: str, spectrum: str) -> None:
    model = disturb(sr.reparameterize(small_network(), 5, method, "riemannian", spectrum, "orthogonal"))
    before = _weights(model)
    sr.gauge_fix(model)
    for a, b in zip(_weights(model), before, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-5
    factors = next(iter(spectral_layers(model).values())).factors
    cores = factors.layout.unpack({n: b.point.detach() for n, b in factors.banks.items()}, FRAMES["riemannian"].key)
    checked = 0
    for group, own in zip(factors.layout.groups, cores, strict=True):
        for core, matrix in zip(group.train.cores, own, strict=True):
            if core.reduced:
                assert matrix[:, : core.inner].tril(-1).abs().max() < 1e-6
                checked += 1
    assert checked or method == "svdp"


# -- being an ordinary module -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "frames"), METHOD_AND_FRAMES)
def test_state_dicts_copies_and_pickles_are_the_same_model(method: str, frames: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = disturb(sr.reparameterize(small_network(), 4, method, frames)).eval()
    expected = model(x)
    fresh = sr.reparameterize(small_network(), 4, method, frames, seed=9).eval()
    fresh(x)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), expected)


def test_a_copy_is_independent() -> None:
    model = sr.reparameterize(small_network(), 4).eval()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    disturb(copy.deepcopy(model))
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("frames", FRAMES)
def test_a_model_cast_to_bfloat16_keeps_its_frames_in_float32(frames: str) -> None:
    model = sr.reparameterize(small_network(), 4, frames=frames).to(torch.bfloat16)
    assert model(torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    layer = next(iter(spectral_layers(model).values()))
    assert layer.weight.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in layer.factors.parameters())
    assert sr.orthogonality_error(model) < 1e-5
    assert model.double()(torch.randn(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("frames", FRAMES)
def test_autocast_leaves_weights_in_float32(frames: str) -> None:
    model = sr.reparameterize(small_network(), 4, frames=frames)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(2, 3, 8, 8))
        assert out.dtype == torch.bfloat16
        assert all(layer.weight.dtype == torch.float32 for layer in spectral_layers(model).values())
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_attention_runs_through_a_reparameterized_projection() -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    sr.reparameterize(attention, 8)
    x = torch.randn(2, 5, 16)
    expected = sr.decompress(attention)(x, x, x)[0]
    torch.testing.assert_close(attention(x, x, x)[0], expected)
    attention.eval()
    with torch.no_grad():
        torch.testing.assert_close(attention(x, x, x)[0], expected)


def test_bias_buffers_hooks_and_mode_stay() -> None:
    layer = nn.Linear(6, 4).eval()
    bias, calls = layer.bias, []
    layer.register_forward_hook(lambda *_: calls.append(1))
    model = sr.reparameterize(layer, 2)
    model(torch.randn(3, 6))
    assert model.bias is bias
    assert calls == [1]
    assert not model.training


def test_frozen_models_stay_frozen() -> None:
    model = sr.reparameterize(small_network().requires_grad_(False), 4)
    assert not any(p.requires_grad for p in model.parameters())


# -- bad input --------------------------------------------------------------------------------------------------------


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8))
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


def _half_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    return model


REFUSED = {
    "rank 0": (small_network, {"rank": 0}, "rank must be a whole number of at least 1, got 0"),
    "negative rank": (small_network, {"rank": -2}, "at least 1, got -2"),
    "fractional rank": (small_network, {"rank": 2.5}, "at least 1, got 2.5"),
    "unknown exclude": (small_network, {"exclude": ("conv1",)}, "exclude names 'conv1', which matches no layer"),
    "exclude of a layer that cannot change": (small_network, {"exclude": "1"}, "'1', which matches no layer"),
    "everything excluded": (small_network, {"exclude": "*"}, "no layers to change, all of them excluded"),
    "no layers": (nn.ReLU, {}, "the model has no layers to change; reparameterize reaches Linear"),
    "unknown method": (small_network, {"method": "cp"}, "unknown method 'cp'; choose one of 'sttp', 'svdp'"),
    "unknown frames": (small_network, {"frames": "cayley"}, "unknown frames 'cayley'; choose one of 'riemannian'"),
    "unknown spectrum": (small_network, {"spectrum": "flat"}, "unknown spectrum 'flat'"),
    "unknown init": (small_network, {"init": "zeros"}, "unknown init 'zeros'"),
    "unknown kernel modes": (small_network, {"kernel_modes": "odd"}, "unknown kernel_modes 'odd'"),
    "negative bound": (small_network, {"spectral_bound": -1.0}, "spectral_bound must be a positive number"),
    "initial bound of random frames": (small_network, {"spectral_bound": "initial"}, "needs init='dense'"),
    "integer weight": (_integer, {}, "weight of layer '0' \\(Linear\\) is torch.int8, not floating point; exclude"),
    "nan with dense": (_not_finite, {"init": "dense"}, "layer '1': the weight holds NaN or infinite values"),
    "zero weight with dense": (
        lambda: nn.Sequential(nn.utils.skip_init(nn.Linear, 2, 2).requires_grad_(True)).apply(_zero),
        {"init": "dense"},
        "layer '0' is all zero",
    ),
    "tied weights": (_tied, {}, "layers '0' and '1' share one weight"),
    "half frozen": (_half_frozen, {}, "layer '0' is frozen and others are not"),
    "parametrized": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)),
        {},
        "",
    ),
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


@pytest.mark.parametrize("case", [c for c in REFUSED if c != "parametrized"])
def test_bad_input_is_named_and_leaves_the_model_as_it_was(case: str) -> None:
    make, options, message = REFUSED[case]
    model = make()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        sr.reparameterize(model, **{"rank": 2, **options})
    assert list(model.state_dict()) == before


def test_a_layer_with_a_parametrization_is_left_with_a_warning() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match="own classes are left as they are, as their forward is not known: 0"):
        sr.reparameterize(model, 2)
    assert list(spectral_layers(model)) == ["1"]


def test_reparameterizing_twice_is_refused() -> None:
    model = sr.reparameterize(small_network(), 2)
    with pytest.raises(ValueError, match="layer '0' is reparameterized already; call decompress first"):
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
