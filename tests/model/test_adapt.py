"""Adapters change nothing at the start, and train nothing but themselves."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import sttp_riemann as sr
from tests.model.adapting import ROWS, STARTS, adapters, loss_of, made, moved, relative, weights
from tests.model.saving import Tied, pair
from tests.strategies import FRAMES, METHODS, SEEDS, small_network
from tests.strategies import layers as drawn_layers
from tests.workflows.common import PATHS, VARIANTS


@given(drawn_layers(), METHODS, FRAMES, SEEDS)
@settings(max_examples=12)
def test_the_weight_and_the_output_are_those_of_the_definition(drawn: Any, method: str, frames: str, seed: int) -> None:
    make, x = drawn
    torch.manual_seed(seed)
    dense = make().double()
    x = x.double() if x.is_floating_point() else x
    layer = moved(sr.adapt(copy.deepcopy(dense), 3, method, frames, scale=0.5, seed=seed))
    left, _, right = layer.build_cores()
    for cores in (*left, *right):
        torch.testing.assert_close(cores.mT @ cores, torch.eye(cores.shape[1], dtype=cores.dtype))
    factor, v = layer.build_factors()
    expected = layer.to_matrix(dense.weight) + 0.5 * factor @ v.mT
    torch.testing.assert_close(layer.to_matrix(layer.weight), expected)
    with torch.no_grad():
        dense.weight.copy_(layer.from_matrix(expected))
        wanted = dense(x)
        for application in ("auto", *layer.applications):
            layer.application = application
            torch.testing.assert_close(layer(x), wanted)


@VARIANTS
def test_a_network_that_starts_at_zero_answers_as_before_bit_for_bit(method: str, frames: str) -> None:
    model = small_network().eval()
    images = torch.randn(2, 3, 8, 8)
    before = model(images).detach()
    assert torch.equal(sr.adapt(model, 4, method, frames, scale=3.0)(images), before)


@VARIANTS
@STARTS
def test_the_start_keeps_the_outputs(method: str, frames: str, start: str) -> None:
    before = pair_outputs()
    found = made(start, method=method, frames=frames, scale=2.0)(ROWS)
    if start == "pissa":
        assert relative(found, before) < 1e-5
    else:
        assert torch.equal(found, before)


def pair_outputs() -> Tensor:
    torch.manual_seed(0)
    return pair()(ROWS).detach()


@VARIANTS
@STARTS
def test_steps_change_all_of_the_adapters_and_nothing_else(method: str, frames: str, start: str) -> None:
    model = made(start, method=method, frames=frames, trainable="2.bias")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    # Decay would move whatever has a gradient
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    same = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert same == {name for name in before if name.endswith(("base", "start_left", "start_right", "0.bias"))}
    assert sr.orthogonality_error(model) < 1e-5


@PATHS
def test_at_zero_the_values_get_the_gradient_of_the_definition_and_the_frames_none(frames: str) -> None:
    model = made(dtype=torch.float64, frames=frames, method="svdp", scale=0.7)
    dense = sr.decompress(model).requires_grad_(True)
    loss_of(model).backward()
    loss_of(dense).backward()
    for name, layer in adapters(model).items():
        ((u,), _, (v,)) = layer.build_cores()
        expected = 0.7 * (u.mT @ dense.get_submodule(name).weight.grad @ v).diagonal()
        torch.testing.assert_close(layer.spectrum.grad, expected)
        assert expected.abs().min() > 0
        assert all(p.grad is None or p.grad.abs().max() == 0 for p in (*layer.left.parameters(), layer.right[0]))
        assert layer.base.grad is None


def test_a_gradient_start_spans_the_leading_directions_of_the_gradient() -> None:
    torch.manual_seed(0)
    model = pair().double()
    loss_of(model).backward()
    gradients = {name: model.get_submodule(name).weight.grad.clone() for name in ("0", "2")}
    given = sr.adapt(copy.deepcopy(model), 3, "svdp", start="gradient", gradients=gradients)
    sr.adapt(model, 3, "svdp", start="gradient")
    assert all(p.grad is None for p in model.parameters())
    for name, layer in adapters(model).items():
        ((u,), _, (v,)) = layer.build_cores()
        values = torch.linalg.svdvals(gradients[name])
        torch.testing.assert_close(torch.linalg.svdvals(u.mT @ gradients[name] @ v), values[:3])
        torch.testing.assert_close(torch.linalg.svdvals(gradients[name] - u @ u.mT @ gradients[name])[:2], values[3:5])
        assert all(torch.equal(a, b) for a, b in zip(layer.left, given.get_submodule(name).left, strict=True))


@pytest.mark.parametrize("spectrum", ["free", "learned"])
def test_a_pissa_start_takes_the_leading_singular_part_off_the_weight(spectrum: str) -> None:
    torch.manual_seed(0)
    dense = nn.Linear(12, 18).double()
    before = dense.weight.detach().clone()
    layer = sr.adapt(dense, 4, "svdp", start="pissa", scale=2.0, spectrum=spectrum)
    values = torch.linalg.svdvals(before)
    torch.testing.assert_close(2 * sr.singular_values(layer)[""], values[:4])
    torch.testing.assert_close(torch.linalg.svdvals(layer.base)[:8], values[4:])
    torch.testing.assert_close(layer.weight, before)


@VARIANTS
def test_gauge_fixing_at_every_step_leaves_the_whole_training_unchanged(method: str, frames: str) -> None:
    options = {"method": method, "frames": frames, "pivots": False}
    model, fixed = (moved(made(dtype=torch.float64, **options)) for _ in range(2))
    optimizers = [sr.RiemannianAdam(m.parameters(), lr=1e-2) for m in (model, fixed)]
    for _ in range(4):
        for m, optimizer in zip((model, fixed), optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(m).backward()
            optimizer.step()
        before = weights(fixed)
        sr.gauge_fix(fixed, optimizers[1])
        for own, other, now in zip(before, weights(model), weights(fixed), strict=True):
            torch.testing.assert_close(own, now, rtol=0, atol=1e-10)
            torch.testing.assert_close(own, other, rtol=0, atol=1e-8)


@PATHS
def test_conversion_and_the_canonical_form_keep_every_weight(frames: str) -> None:
    model = moved(made(dtype=torch.float64, frames=frames, scale=0.5))
    before = weights(model)
    for verb in (
        lambda m: sr.convert_frames(m, "householder"),
        sr.canonicalize,
        lambda m: sr.convert_frames(m, frames),
    ):
        verb(model)
        assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(weights(model), before, strict=True))
    assert sr.chart_margin(model) > 0
    assert torch.isfinite(sr.spectral_penalty(model))


def test_an_assigned_weight_is_met_by_the_change_alone() -> None:
    model = made(dtype=torch.float64, method="svdp", scale=0.5)
    base = model[0].base.detach().clone()
    change = torch.randn(18, 3).double() @ torch.randn(3, 12).double()
    assert sr.set_weight(model[0], base + change) < 1e-12
    torch.testing.assert_close(model[0].weight, base + change)
    full = base + torch.randn(18, 12).double()
    error = sr.set_weight(model[0], full)
    assert error == pytest.approx(float((model[0].weight - full).norm() / full.norm()))
    model[0].reset_parameters()
    assert torch.equal(model[0].weight, base)
    assert torch.equal(model[0].base, base)


def test_adapters_of_tied_weights_are_one() -> None:
    torch.manual_seed(0)
    model, words = Tied(), torch.arange(20)
    before = model(words).detach()
    sr.adapt(model, 3)
    assert torch.equal(model(words), before)
    assert model.head.left is model.words.left
    assert model.head.base is model.words.base
    moved(model)
    found = model(words).detach()
    sr.merge(model.eval())
    assert model.head.base is model.words.base
    assert relative(model(words), found) < 1e-6
    plain = sr.decompress(model)
    assert plain.head.weight is plain.words.weight
    with pytest.raises(ValueError, match="exclude both, or none"):
        sr.adapt(Tied(), 3, include="words")


def test_the_projections_of_attention_are_adapted_apart() -> None:
    torch.manual_seed(0)
    module, x = nn.MultiheadAttention(12, 2, batch_first=True), torch.randn(2, 4, 12)
    before = module(x, x, x)[0].detach()
    whole = module.in_proj_weight
    module(x, x, x)[0].square().sum().backward()
    piece = whole.grad[:12].clone()
    sr.adapt(module, 3, "svdp", start="gradient", exclude=["out_proj", "k_proj"])
    assert {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad} == {"q_proj", "v_proj"}
    assert relative(module(x, x, x)[0], before) < 1e-6
    ((u,), _, _) = module.q_proj.build_cores()
    torch.testing.assert_close((u.mT @ piece).norm(), torch.linalg.svdvals(piece)[:3].norm())
    assert module.q_proj.base.untyped_storage().nbytes() == 4 * 144
    moved(module)
    found = module(x, x, x)[0].detach()
    assert relative(found, before) > 1e-3
    assert relative(sr.merge(module.eval())(x, x, x)[0], found) < 1e-6
    assert relative(sr.decompress(module)(x, x, x)[0], found) < 1e-6


def test_a_second_call_adapts_what_is_left_and_earlier_adapters_train_on() -> None:
    model = sr.adapt(made(exclude="0"), 2, "svdp")
    assert (model[0].rank, model[2].rank) == (2, 3)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"0", "2"}
    assert not any(name.endswith(("base", "bias")) for name in trained)
    other = sr.reparameterize(sr.adapt(pair(), 2, include="0").requires_grad_(True), 2)
    assert [type(layer).__name__ for layer in other] == ["AdaptedLinear", "Tanh", "SpectralLinear"]


@pytest.mark.parametrize("named", ["1", "1.weight", "[1]", ("1.*",), {"1"}])
def test_what_stays_trainable_is_named_by_parameter_module_or_pattern(named: Any) -> None:
    model = sr.adapt(small_network(), 4, trainable=named)
    found = {name for name, p in model.named_parameters() if p.requires_grad and ".left" not in name}
    plain = {name for name in found if ".right" not in name and "spectrum" not in name}
    assert plain == ({"1.weight"} if named == "1.weight" else {"1.weight", "1.bias"})


class Flattened(Tensor):
    """What a quantized weight looks like."""

    def __tensor_flatten__(self) -> None: ...


class OwnRow(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"spectrum": "learned"},
            "start='zero' begins at s = 0, where a learned spectrum cannot be; use spectrum='free'",
        ),
        ({"start": "gradient"}, "needs the gradient of the loss at layer '0': call backward"),
        ({"gradients": {}}, "gradients choose the frames of start='gradient' only"),
        ({"start": "gradient", "gradients": {"0": torch.zeros(18, 12)}}, "the gradient of layer '0' is zero"),
        ({"start": "gradient", "gradients": {"0": torch.ones(12, 18)}}, "the gradient of layer '0' must be of shape"),
        ({"start": "gradient", "gradients": {"7": torch.ones(12, 18)}}, "gradients names '7'"),
        ({"include": "7"}, "include names '7', which matches no layer"),
        ({"include": "0", "exclude": "0"}, "include and exclude leave none"),
        ({"trainable": "0.weight"}, "trainable names '0.weight'"),
        ({"scale": 0}, "scale must be a number from 1e-30"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_changes(options: Any, message: str) -> None:
    model = pair()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message) as caught:
        sr.adapt(model, 3, **options)
    assert str(caught.value).isprintable()
    assert [type(m) for m in model] == [nn.Linear, nn.Tanh, nn.Linear]
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_weight_that_is_not_plain_is_refused_in_one_line() -> None:
    model = pair()
    model[2].weight = nn.Parameter(model[2].weight.detach().as_subclass(Flattened))
    with pytest.raises(ValueError, match=r"the weight of layer '2' \(Linear\) is a Flattened, quantized"):
        sr.adapt(model, 3)
    assert type(model[0]) is nn.Linear
    assert sr.adapt(model, 3, exclude="2")[0].rank == 3


def test_a_registered_class_keeps_its_own_forward() -> None:
    sr.register_layer(OwnRow)
    torch.manual_seed(0)
    model = nn.Sequential(OwnRow(12, 6))
    before = model(ROWS).detach()
    assert torch.equal(sr.adapt(model, 3)(ROWS), before)
    moved(model)
    torch.testing.assert_close(model(ROWS), ROWS @ (model[0].weight / 2).mT)
    assert torch.equal(pickle.loads(pickle.dumps(model))(ROWS), model(ROWS))
