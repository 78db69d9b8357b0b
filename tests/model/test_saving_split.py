"""Split modules and registered layers come back from a file as they were, or are refused in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from tests.model.saving import Own, assert_same, pair, refused, stepped
from tests.strategies import disturb
from tests.workflows.common import PATHS


class Attending(nn.Module):
    """One attention under two names."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 2, **options)
        self.again = self.attn

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.attn(x, x, x)[0], x, x)[0]


@sr.register_layer
class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / 2, self.bias)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Bilinear(12, 12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x, x)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.EmbeddingBag(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.bags((10 * x[0]).long().abs() % 20)


def transposed() -> nn.Module:
    layer = pytest.importorskip("transformers.pytorch_utils").Conv1D(18, 12)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(18, 6))


REACHED: dict[str, tuple[Callable[[], nn.Module], str | tuple[str, ...]]] = {
    "attention": (Attending, ()),
    "attention, keys dense": (Attending, ("attn.k_proj", "attn.out_proj")),
    "widths of their own": (lambda: Attending(kdim=12, vdim=12), ()),
    "encoder": (lambda: nn.TransformerEncoderLayer(12, 2, 18, batch_first=True, dropout=0.0), "self_attn.q_proj"),
    "lstm": (lambda: nn.LSTM(12, 8, 2, bidirectional=True), ()),
    "lstm, one matrix": (lambda: nn.LSTM(12, 8), "hh_l0"),
    "gru": (lambda: nn.Sequential(nn.GRU(12, 8)), ()),
    "cell": (lambda: nn.LSTMCell(12, 8), ()),
    "bilinear": (Both, ()),
    "bags": (Bags, ()),
    "own class": (lambda: nn.Sequential(Halved(12, 18), nn.Linear(18, 6)), ()),
    "Conv1D of transformers": (transposed, ()),
}


def reached_inputs(model: nn.Module) -> Tensor:
    x = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(1))
    return x[0] if isinstance(model, nn.LSTMCell) else x


def flat(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [tensor for part in outputs for tensor in flat(part)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("case", REACHED)
@PATHS
def test_modules_that_were_split_and_layers_that_were_registered_come_back(
    frames: str, case: str, device: str, path: Path
) -> None:
    make, exclude = REACHED[case]
    model = disturb(sr.reparameterize(make(), 4, frames=frames, exclude=exclude))
    x = reached_inputs(model)
    sr.save(model, path)

    def fresh() -> nn.Module:
        with torch.device(device):
            return make()

    for source in (path, dict(model.state_dict())):
        found = sr.load(source, fresh())
        assert_same(found, model)
        assert all(torch.equal(a, b) for a, b in zip(flat(found(x)), flat(model(x)), strict=True))
    again = sr.load(path, found)
    assert again is found
    assert_same(again, model)
    dense = sr.decompress(found)
    assert list(dense.state_dict()) == list(make().state_dict())
    for own, other in zip(flat(dense(x)), flat(model(x)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


@PATHS
def test_a_split_model_trains_on_as_the_saved_one(frames: str, path: Path) -> None:
    x = torch.randn(3, 2, 12)
    model = sr.reparameterize(nn.ModuleList([Attending(), nn.Linear(12, 6)]), 4, frames=frames, exclude="0.attn.v_proj")
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    stepped(model, optimizer, [x, x], 2)
    sr.save(model, path)
    found = sr.load(path, nn.ModuleList([Attending(), nn.Linear(12, 6)]))
    again = sr.RiemannianAdam(found.parameters(), lr=1e-2)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    expected = stepped(model, optimizer, [x, x], 2)
    assert all(torch.equal(a, b) for a, b in zip(stepped(found, again, [x, x], 2), expected, strict=True))


def test_frozen_pieces_of_a_split_module_come_back_frozen(path: Path) -> None:
    model = sr.reparameterize(Attending(), 4, exclude="attn.k_proj")
    model.attn.k_proj.requires_grad_(False)
    model.attn.q_proj.freeze()
    sr.save(model, path)
    assert_same(sr.load(path, Attending()), model)


def shared_projections() -> nn.Module:
    model = Attending()
    model.other = nn.MultiheadAttention(12, 2)
    model.other.in_proj_weight = model.attn.in_proj_weight
    return model


def wider() -> nn.Module:
    model = Attending()
    model.attn = model.again = nn.MultiheadAttention(16, 2)
    return model


def named_alike() -> nn.Module:
    """Has another attention under the name, whose queries are not apart."""
    model = nn.Module()
    model.attn = nn.TransformerEncoderLayer(12, 2, 18)
    return model


SPLIT_MISFITS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "none at all": (
        lambda: nn.Sequential(nn.Linear(12, 12)),
        r"layer '(attn|again)\.q_proj' is in the file, and the model has no such layer",
    ),
    "another module": (named_alike, r"layer '(attn|again)\.q_proj' is in the file, and the model has no such layer"),
    "widths of its own": (lambda: Attending(kdim=8), r"layer 'attn\.k_proj' does not fit: its weight is"),
    "another width": (wider, r"layer '(attn|again)\.\w+_proj' does not fit: its weight is 12-12 in the file and 16-16"),
    "shared projections": (shared_projections, "in_proj_weight of 'attn' is shared with another module"),
    "split otherwise": (lambda: sr.reparameterize(Attending(), 4), r"'attn\.v_proj' is reparameterized here and dense"),
    "without bias": (lambda: Attending(bias=False), "'attn.in_proj_bias' are one tensor in the file and not"),
}


@pytest.mark.parametrize("misfit", SPLIT_MISFITS)
def test_a_file_of_a_split_module_that_does_not_fit_is_refused_by_layer(misfit: str, path: Path) -> None:
    sr.save(sr.reparameterize(Attending(), 4, exclude="attn.v_proj"), path)
    make, match = SPLIT_MISFITS[misfit]
    refused(path, make(), match)


def test_a_dense_piece_that_is_missing_or_of_another_shape_is_refused_by_name() -> None:
    state = dict(sr.reparameterize(Attending(), 4, exclude="attn.v_proj").state_dict())
    names = [name for name in state if name.endswith("v_proj.weight")]
    refused(
        {n: t for n, t in state.items() if n not in names}, Attending(), r"v_proj\.weight' is in the model, and not"
    )
    refused(state | {name: torch.ones(12, 13) for name in names}, Attending(), r"v_proj\.weight' is \(12, 13\)")


def test_an_own_class_is_refused_until_it_is_registered(path: Path) -> None:
    sr.save(sr.reparameterize(pair(), 4), path)
    model = nn.Sequential(nn.Linear(12, 18), nn.Tanh(), Own(18, 6))
    refused(path, model, r"layer '2' is a Own here, which stays dense; call sr\.register_layer\(Own\) first")
