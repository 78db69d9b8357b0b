"""Ranks that change in training: weights, moments, options and files, on both paths."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.model.gathering import grouped_layers
from sttp_riemann.model.measures import layer_ranks
from sttp_riemann.model.resizing import chain_of, resize
from sttp_riemann.optim.moments import MOMENTS
from sttp_riemann.testing.models import gap, layers_of, rotation, spectral_network, weights_of
from sttp_riemann.trains.bonds import Resized
from sttp_riemann.trains.shape import absorb
from sttp_riemann.trains.truncation import truncate
from tests.model.ranking import gradients_of, loss_of, network, train_steps

SAME = 1e-12
CASES = [(m, f, s) for m in ("sttp", "svdp") for f in ("riemannian", "householder") for s in ("learned", "free")]
OPTIMIZERS: dict[str, Any] = {
    **{moment: lambda p, m=moment: sr.RiemannianAdam(p, lr=1e-2, moment=m) for moment in sorted(MOMENTS)},
    "amsgrad": lambda p: sr.RiemannianAdam(p, lr=1e-2, moment="cores", amsgrad=True),
    "sgd": lambda p: sr.RiemannianSGD(p, lr=1e-2, momentum=0.9),
    "torch adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "torch sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


def _turned(resized: Resized, seed: int) -> Resized:
    """The same matrix in another gauge, told as a change of ranks."""
    generator = torch.Generator().manual_seed(seed)
    for train, frames, maps in zip(resized.chain.trains, resized.chain.frames, resized.maps, strict=True):
        for k, core in enumerate(train.cores[:-1]):
            if not (core.reduced and core.rows == core.inner):
                q = rotation(core.inner, generator)
                frames[k], maps[k] = frames[k] @ q, q.mT @ maps[k]
                frames[k + 1] = absorb(q, frames[k + 1], train.cores[k + 1].outer_first)
    return resized


def _rebuild(model: nn.Module, optimizer: torch.optim.Optimizer, turn: bool) -> set[str]:
    groups = grouped_layers(model)
    changes = {}
    for name, (layer, *_) in groups.items():
        resized = truncate(chain_of(name, layer), layer.shape)
        changes[name] = layer.shape, _turned(resized, 3) if turn else resized
    return {row.moments for row in resize(model, groups, changes, optimizer).layers}


@pytest.mark.parametrize(
    ("method", "name"),
    # Frames of St_U in reflectors get new rows, and moments begin anew
    [(m, name) for name in sorted(OPTIMIZERS) for m in ("sttp", "svdp") if m == "svdp" or "torch" not in name],
)
def test_with_nothing_cut_the_future_of_every_weight_stays(method: str, name: str) -> None:
    frames = "householder" if "torch" in name else "riemannian"
    ends = []
    for rebuilt in (False, True):
        model = network(method=method, frames=frames)
        optimizer = OPTIMIZERS[name](model.parameters())
        train_steps(model, optimizer, range(7))
        if rebuilt:
            # Householder frames have no gauge to turn
            assert _rebuild(model, optimizer, turn=frames == "riemannian") == {"carried"}
        train_steps(model, optimizer, range(7, 30))
        ends.append(weights_of(model))
    assert gap(*ends) < SAME


@pytest.mark.parametrize(("method", "frames", "spectrum"), CASES)
def test_growth_keeps_weights_and_gives_new_values_a_gradient(method: str, frames: str, spectrum: str) -> None:
    model = network(method=method, frames=frames, spectrum=spectrum)
    before, gradients = weights_of(model), gradients_of(model)
    rows = sr.grow_ranks(model, gradients, rank=7).layers
    assert gap(weights_of(model), before) < SAME
    assert [(row.before, row.after) for row in rows] == [(4, 7), (4, 7)]
    assert max(row.moved for row in rows) < SAME
    loss_of(model, 99).backward()
    for layer in layers_of(model):
        assert layer.spectrum.grad[4:].abs().min() > 1e-6
        assert not layer.spectrum.detach()[4:].any()


@pytest.mark.parametrize(("method", "frames", "spectrum"), CASES)
def test_shrinking_moves_weights_by_no_more_than_the_energy_that_is_cut(
    method: str, frames: str, spectrum: str
) -> None:
    model = network(rank=8, method=method, frames=frames, spectrum=spectrum)
    before = weights_of(model)
    # All bonds of a train count, and those of random cores lose much
    energy = 0.9 if method == "svdp" else 0.2
    rows = sr.shrink_ranks(model, energy=energy).layers
    for row, w, old in zip(rows, weights_of(model), before, strict=True):
        assert row.after < row.before
        assert row.moved == pytest.approx(float((w - old).norm() / old.norm()), abs=1e-10)
        # A learned spectrum with inner bonds cut sets its largest value back to the bound
        slack = 2 if method == "sttp" and spectrum == "learned" else 1
        assert row.moved**2 <= (1 - energy) * slack + 1e-9
    if spectrum == "learned":
        assert all(float(s.max()) == pytest.approx(1) for s in sr.singular_values(model).values())


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_training_goes_on_after_ranks_grow_and_shrink_and_lowers_the_loss(name: str) -> None:
    frames = "householder" if "torch" in name else "riemannian"
    model = network(frames=frames)
    optimizer = OPTIMIZERS[name](model.parameters())
    train_steps(model, optimizer, range(10))
    before = loss_of(model, 50).item()
    for verb in ("grow", "shrink"):
        if verb == "grow":
            sr.grow_ranks(model, gradients_of(model), optimizer, factor=1.5)
        else:
            sr.shrink_ranks(model, optimizer, rank=5)
        assert [id(p) for g in optimizer.param_groups for p in g["params"]] == [id(p) for p in model.parameters()]
        assert set(optimizer.state) <= set(model.parameters())
        for parameter, state in optimizer.state.items():
            assert all(v.shape == parameter.shape for k, v in state.items() if k in ("exp_avg", "momentum_buffer"))
        train_steps(model, optimizer, range(20))
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer.load_state_dict(saved)
    assert loss_of(model, 50).item() < before
    assert sr.orthogonality_error(model) < 1e-10


def test_momentum_of_w_is_the_same_after_growth() -> None:
    ends = []
    for grow in (False, True):
        model = network(spectrum="free")
        optimizer = sr.RiemannianSGD(model.parameters(), lr=1e-7, momentum=0.9)
        train_steps(model, optimizer, range(5))
        if grow:
            rows = sr.grow_ranks(model, gradients_of(model), optimizer, rank=6).layers
            assert {row.moments for row in rows} == {"carried"}
        start = weights_of(model)
        optimizer.zero_grad()
        (0.0 * loss_of(model, 0)).backward()
        optimizer.step()
        ends.append([(w - s) / 1e-7 for w, s in zip(weights_of(model), start, strict=True)])
    assert gap(ends[0], [torch.zeros_like(w) for w in ends[0]]) > 1e-3
    assert gap(*ends) < 1e-6


def test_reflectors_keep_their_moments_where_columns_are_added_and_say_where_not() -> None:
    words = {}
    for method in ("svdp", "sttp"):
        model = network(method=method, frames="householder")
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        train_steps(model, optimizer, range(5))
        kept = {p: s["exp_avg"].clone() for p, s in optimizer.state.items()}
        first = layers_of(model)[0].left[0]
        words[method] = {row.moments for row in sr.grow_ranks(model, gradients_of(model), optimizer, rank=6).layers}
        if method == "svdp":
            new = optimizer.state[layers_of(model)[0].left[0]]
            assert int((new["exp_avg"] != 0).sum()) == int((kept[first] != 0).sum())
            assert int(new["step"]) == 5
    assert words == {"svdp": {"carried"}, "sttp": {"partly"}}


def test_layers_keep_identity_hooks_bias_and_groups() -> None:
    model = network()
    layer, bias, seen = model[0], model[0].bias, []
    layer.register_forward_hook(lambda *_: seen.append(1))
    groups = [{"params": list(model[0].parameters()), "lr": 1e-3}, {"params": list(model[2].parameters()), "lr": 1e-4}]
    optimizer = sr.RiemannianAdam(groups)
    layer.freeze()
    sr.shrink_ranks(model, optimizer, rank={"0": 2})
    assert model[0] is layer
    assert layer.bias is bias
    assert layer_ranks(model) == {"0": 2, "2": 4}
    assert [{id(p) for p in g["params"]} for g in optimizer.param_groups] == [
        {id(p) for p in model[k].parameters()} for k in (0, 2)
    ]
    assert not layer.trains
    assert model[2].trains
    model(torch.zeros(1, 36).double())
    assert seen == [1]


def test_tied_layers_change_together() -> None:
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12)).double()
    model[1].weight = model[0].weight
    sr.reparameterize(model, 5)
    gradients: dict[str, Tensor]
    with sr.weight_gradients(model) as gradients:
        model(torch.randn(3, 12).double()).square().sum().backward()
    assert list(gradients) == ["0"]
    sr.grow_ranks(model, gradients, rank=8)
    assert model[0].left is model[1].left
    assert model[0].rank == model[1].rank == 8


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_a_changed_model_is_one_made_at_these_ranks(frames: str, path: Path) -> None:
    model = spectral_network(frames)
    other = spectral_network(frames, 1)
    with sr.weight_gradients(model) as gradients:
        x = torch.randn(2, 12).double()
        (model[0](x).sum() + model[1](torch.randn(2, 4, 5, 5).double()).square().sum()).backward()
    sr.grow_ranks(model, gradients, rank=6)
    before = weights_of(model)
    with pytest.raises(RuntimeError, match="ranks is"):
        other.load_state_dict(model.state_dict())
    sr.save(model, path)
    fresh = sr.load(path, nn.Sequential(nn.Linear(12, 18), nn.Conv2d(4, 6, 3)).double())
    assert gap(weights_of(fresh), before) == 0
    made = sr.reparameterize(
        nn.Sequential(nn.Linear(12, 18), nn.Conv2d(4, 6, 3)).double(), layer_ranks(model), frames=frames
    )
    assert {n: p.shape for n, p in made.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert sr.compression(model).dof == sr.compression(made).dof
    for change in (sr.gauge_fix, sr.canonicalize):
        assert gap(weights_of(change(model)), before) < 1e-10


def test_a_budget_is_kept_and_takes_from_the_layer_that_loses_least() -> None:
    model = network(rank=8)
    with torch.no_grad():
        model[0].spectrum.copy_(torch.tensor([1.0] + [1e-3] * 7))
        model[2].spectrum.fill_(1)
    sr.shrink_ranks(model, budget=0.5 * sr.compression(model).ratio / 100 + 0.1, least=2)
    ranks = layer_ranks(model)
    assert ranks["0"] < ranks["2"]
    assert ranks["0"] >= 2


@pytest.mark.parametrize(("method", "frames", "spectrum"), CASES)
def test_a_step_gives_new_values_a_size_and_lowers_the_loss(method: str, frames: str, spectrum: str) -> None:
    model = network(method=method, frames=frames, spectrum=spectrum)
    before = loss_of(model, 99).item()
    rows = sr.grow_ranks(model, gradients_of(model), rank=6, step=1e-3).layers
    for row, layer in zip(rows, layers_of(model), strict=True):
        size = layer.spectrum.detach().abs()
        torch.testing.assert_close(size[4:], 1e-3 * size.max().expand(2))
        assert 0 < row.moved < 1e-2
    assert loss_of(model, 99).item() < before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, g: sr.grow_ranks(m, g, factor=2, step=1.5), "step must be a share"),
        (
            lambda m, g: sr.register_rank_change(m, sr.RiemannianSGD(m.parameters()), 0.5, 5, 1, step=-1),
            "step must be a share",
        ),
        (lambda m, g: sr.shrink_ranks(m), "one of rank, energy and budget"),
        (lambda m, g: sr.shrink_ranks(m, energy=1.5), "energy must be a share"),
        (lambda m, g: sr.shrink_ranks(m, budget=1e-4), "budget 0.0001 is too small"),
        (lambda m, g: sr.shrink_ranks(m, rank={"7": 2}), "matches no layer"),
        (lambda m, g: sr.shrink_ranks(m, energy=0.5, least=0), "least must be a whole number"),
        (lambda m, g: sr.grow_ranks(m, g), "either a rank or a factor"),
        (lambda m, g: sr.grow_ranks(m, g, factor=1.0), "factor must be a number above 1"),
        (lambda m, g: sr.grow_ranks(m, {}, rank=9), "gradients has none for it"),
        (lambda m, g: sr.grow_ranks(m, {"9": g["0"]}, rank=9), "no such reparameterized layer"),
        (lambda m, g: sr.grow_ranks(m, {"0": g["0"].mT}, factor=2), "must be of shape"),
        (lambda m, g: sr.shrink_ranks(m, torch.optim.Adam(m.parameters()), rank=0), "rank must be a whole number"),
        (lambda m, g: sr.register_rank_change(m, sr.RiemannianSGD(m.parameters()), 0.5, 5, 10), "at least every, 10"),
    ],
)
def test_bad_input_is_one_line_before_anything_changes(call: Any, message: str) -> None:
    model = network()
    gradients = gradients_of(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        call(model, gradients)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))


def test_a_layer_that_is_bounded_as_an_operator_is_refused() -> None:
    model = sr.reparameterize(nn.Conv1d(6, 8, 3), 4, bound_of="operator")
    before = model.weight.detach().clone()
    with pytest.raises(ValueError, match=r"bounded as an operator.*bound_of='matrix'"):
        sr.shrink_ranks(model, energy=0.5)
    assert torch.equal(model.weight, before)


def test_an_identity_spectrum_and_adam_on_riemannian_frames_are_refused() -> None:
    model = sr.reparameterize(nn.Linear(24, 16).double(), 4, spectrum="identity")
    with pytest.raises(ValueError, match="identity spectrum"):
        sr.shrink_ranks(model, energy=0.5)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)
    train_steps(model, optimizer, range(2))
    with pytest.raises(ValueError, match="train Riemannian frames with RiemannianAdam"):
        sr.shrink_ranks(model, optimizer, rank=2)
    assert set(layer_ranks(model).values()) == {4}
