"""Parts of a model carry all of their own: they are frozen, cut, moved, copied and saved as dense ones are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from tests.workflows.common import (
    FRAMES,
    KINDS,
    PATHS,
    Net,
    assert_same_outputs,
    inputs,
    moved,
    of_kind,
    optimizer_for,
    spectral,
    stack,
    train,
    trained,
    weights_of,
)

BACKBONE = {"backbone.0", "backbone.2"}
ALL = BACKBONE | {"head"}


def other_seed(kind: str) -> dict[str, int]:
    return {} if kind == "dense" else {"seed": 1}


def weights_that_move(model: nn.Module, kind: str, parameters: list | None = None) -> set[str]:
    wanted = parameters or [p for p in model.parameters() if p.requires_grad]
    before = weights_of(model)
    train(model, optimizer_for(kind, wanted), 4)
    return moved(before, weights_of(model))


@KINDS
def test_each_layer_learns_at_the_rate_of_its_own_group(kind: str) -> None:
    model = of_kind(kind, Net())
    groups = [{"params": list(model.backbone.parameters()), "lr": 0.0}, {"params": list(model.head.parameters())}]
    assert weights_that_move(model, kind, groups) == {"head"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("part", "left"), [("backbone", {"head"}), ("head", BACKBONE), ("backbone.2", ALL - {"backbone.2"})]
)
@KINDS
def test_freezing_a_part_freezes_it_and_nothing_else(kind: str, part: str, left: set[str], when: str) -> None:
    model = Net()
    if when == "before":
        model.get_submodule(part).requires_grad_(False)
    model = of_kind(kind, model)
    if when == "after":
        model.get_submodule(part).requires_grad_(False)
    assert weights_that_move(model, kind) == left
    assert all(p.grad is None for p in model.get_submodule(part).parameters())


@PATHS
def test_one_side_or_the_spectrum_of_a_layer_can_be_frozen(frames: str) -> None:
    model = spectral(Net(), frames, spectrum="free")
    layer = model.head
    layer.left.requires_grad_(False)
    layer.spectrum.requires_grad_(False)
    kept = [p.detach().clone() for p in (*layer.left.parameters(), layer.spectrum)]
    assert weights_that_move(model, frames) == ALL
    assert all(torch.equal(p, old) for p, old in zip((*layer.left.parameters(), layer.spectrum), kept, strict=True))
    assert all(p.grad is not None for p in layer.right.parameters())


@PATHS
def test_thawing_lets_a_layer_learn_again(frames: str) -> None:
    model = spectral(Net().requires_grad_(False), frames)
    assert not any(p.requires_grad for p in model.parameters())
    model.head.requires_grad_(True)
    assert weights_that_move(model, frames) == {"head"}


@KINDS
def test_a_slice_of_a_model_is_a_model(kind: str) -> None:
    model = of_kind(kind, stack())
    end = model[2:]
    x = torch.randn(8, 48)
    whole = sr.decompress(model) if kind in FRAMES else model
    assert_same_outputs(end, whole[2:], x)
    assert {name.split(".")[0] for name in end.state_dict()} == {"2", "4", "6"}
    before = weights_of(end)
    train(end, optimizer_for(kind, end.parameters()), 3, x)
    assert moved(before, weights_of(end)) == {"2", "4", "6"}


@KINDS
def test_replacing_a_layer_leaves_the_others_all_they_have(kind: str) -> None:
    model = of_kind(kind, Net())
    kept = {name for name in model.state_dict() if not name.startswith("backbone.0.")}
    model.backbone[0] = nn.Linear(24, 48)
    assert kept <= set(model.state_dict())
    assert weights_that_move(model, kind) == ALL


@KINDS
def test_deleting_a_layer_leaves_the_others_all_they_have(kind: str) -> None:
    model = of_kind(kind, stack())
    del model[0]
    before = weights_of(model)
    train(model, optimizer_for(kind, model.parameters()), 3, torch.randn(8, 48))
    assert moved(before, weights_of(model)) == {"1", "3", "5"}


@KINDS
def test_a_layer_moves_to_another_model_with_all_it_has(kind: str) -> None:
    first, second = of_kind(kind, Net()), of_kind(kind, Net(classes=7))
    names = set(dict(first.head.named_parameters()))
    weight = first.head.weight.detach().clone()
    second.head = first.head
    del first
    assert {n.removeprefix("head.") for n, _ in second.named_parameters() if n.startswith("head.")} == names
    torch.testing.assert_close(second.head.weight.detach(), weight)
    assert weights_that_move(second, kind) == ALL


@KINDS
def test_a_layer_is_added_and_learns(kind: str) -> None:
    model = of_kind(kind, stack())
    model.append(of_kind(kind, nn.Linear(10, 10)))
    model.append(nn.Linear(10, 3))
    assert weights_that_move(model, kind) == {"0", "2", "4", "6", "7", "8"}
    fresh = of_kind(kind, stack())
    fresh.append(of_kind(kind, nn.Linear(10, 10)))
    fresh.append(nn.Linear(10, 3))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(inputs()), model(inputs()))


@pytest.mark.parametrize("part", ["backbone", "backbone.2", "head"])
@KINDS
def test_a_copy_of_a_part_in_double_is_independent_and_learns(kind: str, part: str) -> None:
    model = trained(of_kind(kind, Net()), kind)
    original = model.get_submodule(part)
    copied = copy.deepcopy(original).double()
    x = torch.randn(8, 24 if part == "backbone" else 48)
    torch.testing.assert_close(copied(x.double()).float(), original(x), rtol=1e-5, atol=1e-5)
    assert {p.dtype for p in copied.parameters()} == {torch.float64}
    before, own = weights_of(model), weights_of(copied)
    train(copied, optimizer_for(kind, copied.parameters()), 3, x.double())
    assert moved(own, weights_of(copied)) == set(own)
    assert moved(before, weights_of(model)) == set()


@KINDS
def test_a_saved_part_is_loaded_into_another_model(kind: str, tmp_path) -> None:
    source, target = trained(of_kind(kind, Net()), kind), of_kind(kind, Net(), **other_seed(kind))
    before = weights_of(target)
    torch.save(source.backbone.state_dict(), tmp_path / "backbone.pt")
    target.backbone.load_state_dict(torch.load(tmp_path / "backbone.pt", weights_only=True))
    assert moved(before, weights_of(target)) == BACKBONE
    assert torch.equal(target.backbone(inputs()), source.backbone(inputs()))


@KINDS
def test_a_backbone_is_loaded_into_a_model_with_another_head(kind: str) -> None:
    source, target = trained(of_kind(kind, Net()), kind), of_kind(kind, Net(classes=7), **other_seed(kind))
    head = target.head.weight.detach().clone()
    state = {name: value for name, value in source.state_dict().items() if not name.startswith("head.")}
    result = target.load_state_dict(state, strict=False)
    assert result.missing_keys
    assert all(name.startswith("head.") for name in result.missing_keys)
    assert not result.unexpected_keys
    assert torch.equal(target.backbone(inputs()), source.backbone(inputs()))
    assert torch.equal(target.head.weight.detach(), head)


@KINDS
def test_a_head_that_does_not_fit_is_refused_by_name_even_when_not_strict(kind: str) -> None:
    source, target = of_kind(kind, Net()), of_kind(kind, Net(classes=7))
    with pytest.raises(RuntimeError, match="head"):
        target.load_state_dict(source.state_dict(), strict=False)


def registered(order: str) -> nn.Module:
    model = nn.Module()
    model.stem = nn.Linear(8, 16)
    for name in order:
        setattr(model, name, nn.Linear(16, 16))
    return model


@KINDS
def test_layers_find_their_own_whatever_order_they_were_registered_in(kind: str) -> None:
    a, b = of_kind(kind, registered("qk")), of_kind(kind, registered("kq"), **other_seed(kind))
    b.load_state_dict(a.state_dict())
    assert all(torch.equal(weight, weights_of(b)[name]) for name, weight in weights_of(a).items())


WRONG = {
    "ranks": ({"rank": {"early": 4, "late": 8}}, {"rank": {"early": 8, "late": 4}}),
    "a rank that the frames' shapes do not tell": ({"rank": 4}, {"rank": 5}),
    "spectrum": ({"spectrum": "learned"}, {"spectrum": "free"}),
    "no spectrum": ({"spectrum": "learned"}, {"spectrum": "identity"}),
    "method": ({"method": "sttp"}, {"method": "svdp"}),
    "frames": ({"frames": "riemannian"}, {"frames": "householder"}),
    "kernel modes": ({"kernel_modes": "flat"}, {"kernel_modes": "prime"}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_state_of_other_options_is_refused_by_layer(what: str) -> None:
    saved, found = (
        sr.reparameterize(
            nn.ModuleDict({"early": nn.Conv2d(16, 16, (4, 2)), "late": nn.Conv2d(16, 16, (4, 2))}),
            **{"rank": 4, "init": "orthogonal", **options},
        )
        for options in WRONG[what]
    )
    with pytest.raises(RuntimeError, match=r"early|late"):
        found.load_state_dict(saved.state_dict())


@PATHS
def test_a_layer_whose_cores_are_missing_is_not_told_to_match(frames: str) -> None:
    model = spectral(Net(), frames)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("head.left")}
    with pytest.raises(RuntimeError, match=r"head\.left"):
        model.load_state_dict(state)


@PATHS
def test_the_state_of_a_dense_model_is_refused_by_layer(frames: str) -> None:
    with pytest.raises(RuntimeError, match="head"):
        spectral(Net(), frames).load_state_dict(Net().state_dict())


@PATHS
def test_a_bound_travels_with_the_weights_that_have_it(frames: str) -> None:
    """With init="dense" each layer has a bound of its own, so that of the saved weights must come along."""
    torch.manual_seed(1)
    saved, found = (sr.reparameterize(Net(), rank=8, frames=frames, init="dense") for _ in range(2))
    found.load_state_dict(saved.state_dict())
    assert torch.equal(found(inputs()), saved(inputs()))
    for name, values in sr.singular_values(found).items():
        torch.testing.assert_close(values, sr.singular_values(saved)[name])


@PATHS
def test_the_state_of_a_part_has_all_the_numbers_of_the_part(frames: str) -> None:
    model = spectral(Net(), frames)
    parts = [*model.backbone.parameters(), *model.head.parameters()]
    assert {id(p) for p in parts} == {id(p) for p in model.parameters()}
    stored = {f"head.{name}" for name in model.head.state_dict()}
    assert stored == {name for name in model.state_dict() if name.startswith("head.")}
    assert {"head.left.0", "head.spectrum", "head.right.0", "head.bias"} <= stored
