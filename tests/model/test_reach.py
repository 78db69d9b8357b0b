"""What was reached, what was left, and why."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.errors import LONGEST
from sttp_riemann.model.measures import spectral_layers


class Own(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight / 2, self.bias)


class Matrices(nn.Module):
    """Two matrices in a class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 9))
        self.weight_hh = nn.Parameter(torch.randn(9, 9))


class Raw(nn.Module):
    """A parameter of its own beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 8))
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.layer = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.table.sum(0))


def everything_left() -> nn.ModuleDict:
    """A layer that is reached, and one for each reason to be left."""
    model = nn.ModuleDict(
        {
            "reached": nn.Linear(8, 8, bias=False),
            "excluded": nn.Linear(8, 4, bias=False),
            "frozen": nn.Linear(8, 5, bias=False).requires_grad_(False),
            "zero": nn.Linear(8, 6, bias=False),
            "parametrized": nn.utils.parametrizations.orthogonal(nn.Linear(8, 7, bias=False)),
            "subclass": Own(8, 3, bias=False),
            "unknown": Matrices(),
            "vectors": nn.BatchNorm1d(8),
        }
    )
    nn.init.zeros_(model["zero"].weight)
    return model


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
def test_every_number_is_reached_or_left_for_a_reason() -> None:
    dense = everything_left()
    names = {id(t) for t in [*dense.parameters(), *dense.buffers()] if t.is_floating_point()}
    total = sum(t.numel() for t in [*dense.parameters(), *dense.buffers()] if id(t) in names)
    table = sr.compression(sr.reparameterize(dense, 2, init="dense", exclude="excluded"))
    reasons = {row.name.split(".")[0]: row.reason for row in table.left if row.reason != "vectors"}
    assert reasons == {name: name for name in list(everything_left())[1:-1]}
    assert table.dense + table.other == total
    assert table.reached == pytest.approx(100 * 64 / total)


@pytest.mark.usefixtures("quiet")
def test_the_table_says_the_share_of_each_reason_with_names() -> None:
    lines = str(sr.compression(sr.reparameterize(everything_left(), 2, init="dense", exclude="excluded"))).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("reached ") and "%" in line)
    shares = [float(line.split()[0]) for line in lines[start + 1 :]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + float(lines[start].split()[1]) == pytest.approx(100, abs=0.05)
    for name, kind in (("frozen", "Linear"), ("unknown", "Matrices"), ("subclass", "Own")):
        assert sum(f"{name} ({kind})" in line for line in lines) == 1


def test_what_the_user_did_not_choose_is_told_in_one_line_each() -> None:
    with pytest.warns(UserWarning, match="are left as they are") as told:
        sr.reparameterize(everything_left(), 2, init="dense", exclude="excluded")
    found = [str(w.message) for w in told]
    for text in ("all zero", "parametrized by", "makes a class known: subclass (Own)", "unknown.weight_hh (Matrices)"):
        assert sum(text in line for line in found) == 1
    assert len(found) == 4
    assert all(len(line) <= LONGEST and line.isprintable() for line in found)


def test_a_small_raw_parameter_and_what_the_user_chose_are_not_told_unasked() -> None:
    model = nn.Sequential(Raw(), nn.Linear(8, 200), nn.Linear(200, 8).requires_grad_(False), nn.Linear(8, 8))
    model.append(nn.Linear(8, 8))
    nn.init.zeros_(model[4].weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sr.reparameterize(model, 2, init="dense", exclude=["3", "4"])
    left = {(row.name, row.reason) for row in sr.compression(model).left if row.reason != "vectors"}
    assert left == {("0.table", "unknown"), ("2", "frozen"), ("3", "excluded"), ("4", "zero")}


@pytest.mark.parametrize("init", ["orthogonal", "dense"])
def test_a_frozen_weight_keeps_its_values(init: str) -> None:
    model = nn.Sequential(nn.Embedding(8, 8).requires_grad_(False), nn.Linear(8, 8))
    before = model[0].weight.clone()
    sr.reparameterize(model, 2, init=init)
    assert torch.equal(model[0].weight, before)
    assert list(spectral_layers(model)) == ["1"]


def test_where_most_is_frozen_that_is_told() -> None:
    model = nn.Sequential(nn.Linear(40, 40).requires_grad_(False), nn.Linear(40, 4))
    with pytest.warns(UserWarning, match=r"left as they are, frozen; requires_grad_\(True\) before .*: 0 \(Linear\)"):
        sr.reparameterize(model, 2)


def test_a_model_that_is_frozen_as_a_whole_is_compressed_as_a_whole() -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)).requires_grad_(False), 2, init="dense")
    assert list(spectral_layers(model)) == ["0", "1"]
    assert not any(p.requires_grad for p in model.parameters())


def test_where_all_that_is_left_is_frozen_the_line_says_what_to_do() -> None:
    model = nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.LayerNorm(8))
    with pytest.raises(ValueError, match=r"the weight of layer '0' is frozen.*requires_grad_"):
        sr.reparameterize(model, 2)


def test_a_layer_of_zeros_stays_with_dense_weights_and_is_reached_by_other_starts() -> None:
    def made() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        nn.init.zeros_(model[1].weight)
        return model

    x = torch.randn(3, 8)
    dense = made()
    wanted = dense(x)
    with pytest.warns(UserWarning, match="all zero are left as they are.*: 1; use spectrum='free'"):
        sr.reparameterize(dense, 1.0, init="dense")
    torch.testing.assert_close(dense(x), wanted, rtol=1e-5, atol=1e-6)
    assert list(spectral_layers(sr.reparameterize(made(), 2, init="dense", spectrum="free"))) == ["0", "1"]
    assert list(spectral_layers(sr.reparameterize(made(), 2))) == ["0", "1"]
