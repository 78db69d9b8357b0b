"""A saved model comes back into a dense one as it was, bit for bit, or is refused in one line; nothing between."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geoopt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

import sttp_riemann as sr
from sttp_riemann.errors import LONGEST, CheckpointError
from sttp_riemann.layers.options import encode
from sttp_riemann.model.stored import FORMAT, content
from sttp_riemann.sealed import seal, unseal
from tests.strategies import DTYPES, FRAMES, METHODS, SEEDS, SPECTRA, disturb, small_network
from tests.strategies import layers as drawn_layers
from tests.workflows.common import PATHS

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Tied(nn.Module):
    """An embedding and a head that share a weight, and two modules that share a buffer."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.words, self.middle, self.head = nn.Embedding(20, 12), nn.Linear(12, 12), nn.Linear(12, 20)
        if tied:
            self.head.weight = self.words.weight
        mask = torch.ones(12)
        self.middle.register_buffer("mask", mask)
        self.register_buffer("mask", mask)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.middle(self.words(words) * self.mask))


def pair() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Linear(18, 6))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def assert_same(found: nn.Module, saved: nn.Module) -> None:
    """Equal state, flags, options and settings, in the same order."""
    there, here = saved.state_dict(), found.state_dict()
    assert list(there) == list(here)
    assert all(torch.equal(tensor, here[name]) and tensor.dtype == here[name].dtype for name, tensor in there.items())
    assert [(n, p.requires_grad, type(p)) for n, p in found.named_parameters()] == [
        (n, p.requires_grad, type(p)) for n, p in saved.named_parameters()
    ]
    for name in sr.singular_values(saved):
        own, other = found.get_submodule(name), saved.get_submodule(name)
        for fact in ("options", "shape", "frames", "application", "recompute", "room", "dense_error", "weight_dtype"):
            assert getattr(own, fact) == getattr(other, fact), fact


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: list[Tensor], steps: int) -> list[Tensor]:
    for _ in range(steps):
        optimizer.zero_grad()
        sum(layer(x).square().mean() for layer, x in zip(model, inputs, strict=True)).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@given(
    st.lists(drawn_layers(), min_size=1, max_size=3),
    METHODS,
    FRAMES,
    SPECTRA,
    DTYPES,
    st.sampled_from(["orthogonal", "dense"]),
    st.one_of(st.integers(1, 8), st.floats(0.2, 1.0)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    SEEDS,
)
@settings(max_examples=60)
def test_a_loaded_model_is_the_saved_one_and_trains_on_as_it(
    drawn: Any, method: str, kind: str, spectrum: str, dtype: torch.dtype, init: str, size: Any, flags: Any, seed: int
) -> None:
    pivots, prime, meta = flags
    inputs = [x.to(dtype) if x.is_floating_point() else x for _, x in drawn]

    options = {"method": method, "frames": kind, "spectrum": spectrum, "init": init, "pivots": pivots}

    def dense() -> nn.ModuleList:
        return nn.ModuleList(make() for make, _ in drawn).to(dtype)

    torch.manual_seed(seed)
    model, numbers = dense(), {"budget": size} if isinstance(size, float) else {"rank": size}
    kernel_modes = "prime" if prime else "flat"
    try:
        sr.reparameterize(model, **numbers, **options, kernel_modes=kernel_modes)
    except ValueError:
        assume(False)  # the budget is too small
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    stepped(model, optimizer, inputs, 2)
    with tempfile.TemporaryDirectory() as folder:
        sr.save(model, f"{folder}/model.safetensors")
        with torch.device("meta" if meta else "cpu"):
            fresh = dense()
        found = sr.load(f"{folder}/model.safetensors", fresh)
    assert found is fresh
    assert_same(found, model)
    again = sr.RiemannianAdam(found.parameters(), lr=1e-2)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.no_grad():
        for own, other, x in zip(found, model, inputs, strict=True):
            assert torch.equal(own(x), other(x))
    expected = stepped(model, optimizer, inputs, 2)
    assert all(torch.equal(a, b) for a, b in zip(stepped(found, again, inputs, 2), expected, strict=True))


@PATHS
def test_a_whole_network_with_batch_norm_comes_back(frames: str, path: Path) -> None:
    model = disturb(sr.reparameterize(small_network(), 6, frames=frames, exclude="11"))
    model(IMAGES)  # moves the statistics
    sr.save(model, path)
    found = sr.load(path, small_network())
    assert_same(found, model)
    assert torch.equal(found.eval()(IMAGES), model.eval()(IMAGES))
    assert type(found[11]) is nn.Linear


def test_ranks_that_depend_on_the_weights_come_back(path: Path) -> None:
    """A fresh model of the same budget has other ranks, and the state does not load into it."""

    def dense() -> nn.Sequential:
        return nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24))

    torch.manual_seed(0)
    model = dense()
    with torch.no_grad():
        model[0].weight.copy_(torch.outer(torch.randn(24), torch.randn(24)))
    sr.reparameterize(model, budget=0.5, init="dense")
    with pytest.raises(RuntimeError, match="ranks"):
        sr.reparameterize(dense(), budget=0.5, init="dense").load_state_dict(model.state_dict())
    sr.save(model, path)
    assert_same(sr.load(path, dense()), model)


def test_nothing_is_drawn_or_decomposed_on_loading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sr.save(sr.reparameterize(pair(), 4, frames="householder", init="dense"), path)
    fresh, before = pair(), torch.get_rng_state()
    for name in ("geqrf", "linalg.qr", "linalg.svd", "linalg.eigh", "randn"):
        place, _, last = name.rpartition(".")
        monkeypatch.setattr(torch.linalg if place else torch, last, None)
    sr.load(path, fresh)
    assert torch.equal(torch.get_rng_state(), before)


@PATHS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_comes_back_and_only_into_its_dtype(frames: str, dtype: torch.dtype, path: Path) -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(12, 18, bias=False)), 4, frames=frames).to(dtype)
    sr.save(model, path)
    found = sr.load(path, nn.Sequential(nn.Linear(12, 18, bias=False)).to(dtype))
    assert_same(found, model)
    fresh = nn.Sequential(nn.Linear(12, 18, bias=False))
    with pytest.raises(CheckpointError, match=r"layer '0' is torch.*float16 in the file and float32 or wider here"):
        sr.load(path, fresh)
    assert type(fresh[0]) is nn.Linear


@PATHS
def test_what_is_frozen_stays_frozen_and_what_is_not_is_thawed(frames: str, path: Path) -> None:
    model = sr.reparameterize(small_network(), 4, frames=frames)
    model[3].requires_grad_(False)
    model[7].left.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    sr.save(model, path)
    assert_same(sr.load(path, small_network().requires_grad_(False)), model)


@PATHS
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_weights_stay_tied(frames: str, device: str, path: Path) -> None:
    model = disturb(sr.reparameterize(Tied(), 4, frames=frames))
    sr.save(model, path)
    assert "head.left.0" not in load_file(path)
    with torch.device(device):
        fresh = Tied()
    found = sr.load(path, fresh)
    assert_same(found, model)
    assert found.head.left is found.words.left
    assert found.middle.mask is found.mask
    words = torch.arange(20)
    assert torch.equal(found(words), model(words))


@PATHS
@pytest.mark.parametrize("saved", [True, False])
def test_a_tie_on_one_side_only_is_refused(frames: str, saved: bool, path: Path) -> None:
    sr.save(sr.reparameterize(Tied(saved), 4, frames=frames), path)
    with pytest.raises(CheckpointError, match=r"one tensor in the (file|model) and not in the|shares its weight"):
        sr.load(path, Tied(not saved))


def test_a_tied_weight_that_is_left_dense_stays_tied_on_the_meta_device(path: Path) -> None:
    model = sr.reparameterize(Tied(), 4, exclude=["words", "head"])
    sr.save(model, path)
    with torch.device("meta"):
        fresh = Tied()
    found = sr.load(path, fresh)
    assert found.head.weight is found.words.weight
    assert_same(found, model)


def test_one_layer_under_two_names_stays_one(path: Path) -> None:
    def twice() -> nn.Sequential:
        layer = nn.Linear(12, 12)
        return nn.Sequential(layer, nn.Tanh(), layer)

    model = sr.reparameterize(twice(), 4)
    sr.save(model, path)
    found = sr.load(path, twice())
    assert found[0] is found[2]
    assert_same(found, model)


@PATHS
def test_a_model_that_is_a_layer_comes_back(frames: str, path: Path) -> None:
    model = sr.reparameterize(nn.Linear(12, 18), 4, frames=frames)
    sr.save(model, path)
    assert_same(sr.load(path, nn.Linear(12, 18)), model)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@PATHS
def test_attention_comes_back(frames: str, device: str, path: Path) -> None:
    model, x = sr.reparameterize(nn.MultiheadAttention(12, 2), 4, frames=frames), torch.randn(3, 2, 12)
    sr.save(model, path)
    with torch.device(device):
        fresh = nn.MultiheadAttention(12, 2)
    assert torch.equal(sr.load(path, fresh)(x, x, x)[0], model(x, x, x)[0])


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


def test_a_dtype_that_no_file_has_is_named(path: Path) -> None:
    model = sr.reparameterize(pair(), 4)
    model.register_buffer("phases", torch.ones(2, dtype=torch.complex128))
    with pytest.raises(CheckpointError, match=r"cannot hold 'phases' of torch.complex128; cast it first"):
        sr.save(model, path)


@PATHS
def test_settings_that_no_state_has_come_back(frames: str, path: Path) -> None:
    model = sr.reparameterize(pair(), 4, frames=frames, recompute="always", pivots=False)
    model[0].application = "weight"
    sr.save(model, path)
    assert_same(sr.load(path, pair()), model)


@PATHS
def test_converted_frames_and_rows_chosen_anew_come_back(frames: str, path: Path) -> None:
    model = disturb(sr.reparameterize(pair(), 4, spectrum="identity"))
    sr.gauge_fix(sr.convert_frames(model, frames))
    sr.save(model, path)
    assert_same(sr.load(path, pair()), model)


@PATHS
def test_it_loads_into_a_model_that_is_reparameterized_alike(frames: str, path: Path) -> None:
    model, found = (disturb(sr.reparameterize(pair(), 4, frames=frames, seed=seed), seed) for seed in (0, 1))
    kept = [id(p) for p in found.parameters()]
    sr.save(model, path)
    sr.load(path, found)
    assert_same(found, model)
    assert [id(p) for p in found.parameters()] == kept


@PATHS
def test_an_alike_model_on_the_meta_device_is_filled(frames: str, path: Path) -> None:
    model = disturb(sr.reparameterize(pair(), 4, frames=frames))
    sr.save(model, path)
    with torch.device("meta"):
        fresh = pair()
    assert_same(sr.load(path, sr.reparameterize(fresh, 4, frames=frames)), model)


@PATHS
def test_the_state_alone_is_enough_for_the_layers(frames: str, tmp_path: Path) -> None:
    """What other programs write: a state in a safetensors file, or one of torch.save."""
    model = disturb(sr.reparameterize(pair(), budget=0.9, frames=frames, init="dense"))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "a.safetensors")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    x = torch.randn(3, 12)
    for source in (tmp_path / "a.safetensors", torch.load(tmp_path / "a.pt", weights_only=True)):
        found = sr.load(source, pair())
        assert torch.equal(found(x), model(x))
        assert [layer.options for layer in (found[0], found[2])] == [layer.options for layer in (model[0], model[2])]
    with pytest.raises(CheckpointError, match=r"sr\.load\(torch\.load\(path\), model\)"):
        sr.load(tmp_path / "a.pt", pair())


def test_a_dense_model_that_is_given_a_spectral_state_says_so_by_layer() -> None:
    """torch's own message: it names the missing weight, and the options beside it."""
    with pytest.raises(RuntimeError, match=r'(?s)Missing.*"0\.weight".*Unexpected.*"0\._extra_state"'):
        pair().load_state_dict(sr.reparameterize(pair(), 4).state_dict())


@pytest.mark.parametrize("strict", [True, False])
@PATHS
def test_a_spectral_model_that_is_given_a_dense_state_refuses_it_in_one_line(frames: str, strict: bool) -> None:
    model = sr.reparameterize(nn.Sequential(nn.Linear(12, 18)), 4, frames=frames)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="layer '0' cannot load this state: it is that of a dense layer"):
        model.load_state_dict({"0.weight": torch.ones(18, 12), "0.bias": before["0.bias"]}, strict=strict)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))


# Copies


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
@PATHS
def test_copies_and_pickles_of_a_whole_model_are_the_model(frames: str, way: str, inside: bool) -> None:
    model, x = disturb(sr.reparameterize(pair(), 4, frames=frames)), torch.randn(3, 12)

    def copied() -> Any:
        if way == "deepcopy":
            return copy.deepcopy(model)
        if way == "pickle":
            return pickle.loads(pickle.dumps(model))
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        return torch.load(stream, weights_only=False)

    if inside:
        with sr.cached(model):
            model(x)
            found = copied()
    else:
        found = copied()
    assert_same(found, model)
    assert torch.equal(found(x), model(x))
    optimizer = sr.RiemannianAdam(found.parameters(), lr=1e-1)
    found(x).square().sum().backward()
    optimizer.step()
    assert not torch.equal(found(x), model(x))
    assert sr.orthogonality_error(found) < 1e-5


# Refusals


def refused(path: Any, model: nn.Module, match: str) -> None:
    before = (type(model), [type(m) for m in model.modules()], copy.deepcopy(model.state_dict()))
    with pytest.raises(CheckpointError, match=match) as caught:
        sr.load(path, model)
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) <= LONGEST
    assert (type(model), [type(m) for m in model.modules()]) == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before[2].values(), strict=True))


class Own(nn.Linear):
    pass


MISFITS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "another size": (lambda: nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Linear(18, 7)), "layer '2' does not fit"),
    "another kind of one size": (
        lambda: nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Conv1d(18, 6, 1)),
        "layer '2' does not fit: its weight is 6-18 in the file and 6-18-1 here; build the model",
    ),
    "another kind that is reparameterized alike": (
        lambda: sr.reparameterize(nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Conv1d(18, 6, 1)), 4),
        "layer '2' does not fit: its weight is 6-18 in the file and 6-18-1 here; build the model",
    ),
    "a missing layer": (lambda: nn.Sequential(nn.Linear(12, 18)), "layer '2' is in the file, and the model has no"),
    "no layer": (lambda: nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.ReLU()), "layer '2' is a ReLU here"),
    "an own class": (lambda: nn.Sequential(nn.Linear(12, 18), nn.Tanh(), Own(18, 6)), "layer '2' is a Own here"),
    "another bias": (
        lambda: nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Linear(18, 6, bias=False)),
        "'2.bias' is in the file, and the model has no such name",
    ),
    "a further layer": (lambda: pair().append(nn.Linear(6, 6)), "'3.weight' is in the model, and not in the file"),
    "another dtype": (lambda: pair().double(), r"is \(18,\) of float32 in the file and \(18,\) of float64"),
    "other ranks": (lambda: sr.reparameterize(pair(), 5), "layer '0' does not fit: ranks .* fresh dense model"),
    "other frames": (lambda: sr.reparameterize(pair(), 4, frames="householder"), "layer '0' .*frames"),
    "a layer that was excluded": (
        lambda: sr.reparameterize(pair().append(nn.Linear(6, 6)), 4),
        "layer '3' is reparameterized here and dense in the file; load into a fresh dense model",
    ),
    "a parametrized weight": (
        lambda: nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(12, 18)), nn.Tanh(), nn.Linear(18, 6)),
        "layer '0'",
    ),
    "sparse gradients": (
        lambda: nn.Sequential(nn.Linear(12, 18), nn.Tanh(), nn.Embedding(6, 18, sparse=True)),
        "layer '2'",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_model_that_does_not_fit_is_named_and_stays_as_it_is(misfit: str, path: Path) -> None:
    sr.save(sr.reparameterize(pair(), 4), path)
    make, match = MISFITS[misfit]
    refused(path, make(), match)


def test_a_weight_that_is_no_plain_tensor_is_refused_by_layer(path: Path) -> None:
    """As a weight is that fully_shard has split."""
    sr.save(sr.reparameterize(nn.Sequential(nn.Linear(12, 18, bias=False)), 4), path)
    fresh = nn.Sequential(nn.Linear(12, 18, bias=False))
    fresh[0].weight = nn.Parameter(TwoTensor(torch.ones(18, 12), torch.ones(18, 12)))
    with pytest.raises(CheckpointError, match="layer '0' has a TwoTensor as weight; load before it is sharded"):
        sr.load(path, fresh)
    assert type(fresh[0]) is nn.Linear


def test_a_buffer_without_numbers_is_refused_on_the_meta_device(path: Path) -> None:
    def with_table() -> nn.Module:
        model = pair()
        model.register_buffer("table", torch.arange(4), persistent=False)
        return model

    sr.save(sr.reparameterize(with_table(), 4), path)
    with torch.device("meta"):
        fresh = with_table()
    with pytest.raises(CheckpointError, match="buffer 'table' is not part of the state"):
        sr.load(path, fresh)
    assert type(fresh[0]) is nn.Linear
    sr.load(path, with_table())


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda path: sr.save(pair(), path), ValueError, "no reparameterized layer"),
        (lambda path: sr.save(sr.reparameterize(pair(), 4), 3), TypeError, "path must be a path"),
        (lambda path: sr.save(sr.reparameterize(pair(), 4), path.parent), CheckpointError, "cannot be written"),
        (lambda path: sr.save("model", path), TypeError, "model"),
        (lambda path: sr.load(path, "model"), TypeError, "model must be"),
        (lambda path: sr.load(None, pair()), TypeError, "path must be"),
        (lambda path: sr.load(path, pair()), CheckpointError, "No such file"),
        (lambda path: sr.load(path.parent, pair()), CheckpointError, "neither model.safetensors nor"),
        (lambda path: sr.load({"a": 1}, pair()), CheckpointError, "give one of names and tensors"),
        (lambda path: sr.load(pair().state_dict(), pair()), CheckpointError, "no reparameterized layer"),
    ],
)
def test_arguments_are_refused_by_name(call: Any, kind: type[Exception], match: str, path: Path) -> None:
    with pytest.raises(kind, match=match):
        call(path)


class Telling(nn.Tanh):
    """A module with a state that is no tensor."""

    def get_extra_state(self) -> Any:
        return "text"

    def set_extra_state(self, state: Any) -> None:
        pass


@pytest.mark.parametrize("state", [torch.ones(2, device="meta"), torch.ones(2, 2).to_sparse(), "text"])
def test_what_cannot_be_saved_is_named_before_anything_is_written(state: Any, path: Path) -> None:
    model = sr.reparameterize(pair(), 4)
    if isinstance(state, str):
        model[1], name = Telling(), "1._extra_state"
    else:
        model.register_buffer("odd", state)
        name = "odd"
    with pytest.raises(ValueError, match=f"the state of the model has '{name}'"):
        sr.save(model, path)
    assert not path.exists()


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], Any]) -> None:
    """Write a file again with a header or state that is made up, and right checksums."""
    tensors, values = unseal(path, FORMAT)
    change(values, tensors)
    path.write_bytes(seal(tensors, values, FORMAT))


WRONG_OPTIONS = {
    "method": ["cp", None, 3],
    "modes": ["12", [], [2, "2"], [2, -1], [True], [2.0], 10**30, [10**30]],
    "ranks": [None, [1, 4.5, 1], {}, [1, 1], [10**18] * 6],
    "frames": ["stiefel", ["riemannian"]],
    "spectrum": ["C", False],
    "bound": ["initial", 0, -1.0, float("inf"), float("nan"), None, True, 10**400],
    "kernel_modes": ["flat ", 1],
    "init": ["dnese", []],
    "bound_from_weight": [1, "yes"],
    "first_rows": [0],
    "pivots": ["yes", None],
    "dtype": ["float8", "float32", 16],
    "unknown": [1],
}
WRONG_SETTINGS = {
    "weight": ["18", [18, "12"], [18], None],
    "application": ["fast", None],
    "recompute": [True],
    "room": ["big", float("nan"), 10**400],
    "dense_error": [-1, "0"],
}


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for n, values in WRONG_OPTIONS.items() for w in values], ids=repr)
def test_an_option_of_a_wrong_type_or_range_is_refused_by_layer(name: str, wrong: Any, path: Path) -> None:
    sr.save(sr.reparameterize(pair(), 4), path)

    def change(values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        told = {**values["layers"]["0"], name: wrong}
        values["layers"]["0"] = told
        tensors["0._extra_state"] = encode({key: told[key] for key in told if key not in WRONG_SETTINGS})

    changed(path, change)
    refused(path, pair(), "layer '0'")
    tensors, _ = unseal(path, FORMAT)
    refused(tensors, pair(), "layer '0'")


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for n, values in WRONG_SETTINGS.items() for w in values], ids=repr)
def test_a_setting_of_a_wrong_type_or_range_is_refused_by_layer(name: str, wrong: Any, path: Path) -> None:
    sr.save(sr.reparameterize(pair(), 4), path)
    changed(path, lambda values, tensors: values["layers"]["0"].update({name: wrong}))
    refused(path, pair(), "layer '0'")


@pytest.mark.parametrize(
    "change",
    [
        lambda values, tensors: values.pop("frozen"),
        lambda values, tensors: values.update(more=1),
        lambda values, tensors: values.update(layers=[]),
        lambda values, tensors: values.update(layers={}),
        lambda values, tensors: values["layers"].update({"0": None}),
        lambda values, tensors: values["layers"].pop("2"),
        lambda values, tensors: values["layers"]["0"].pop("ranks"),
        lambda values, tensors: values["layers"]["0"].pop("room"),
        lambda values, tensors: values["layers"]["0"].update(bound=2.0),
        lambda values, tensors: values["layers"].update({"9": values["layers"]["0"]}),
        lambda values, tensors: values.update(tied={"0.bias": "2.bias"}),
        lambda values, tensors: values.update(tied={"more": "2.bias"}),
        lambda values, tensors: values.update(tied={"more": 1}),
        lambda values, tensors: values.update(tied=[]),
        lambda values, tensors: values.update(frozen="0.bias"),
        lambda values, tensors: values.update(frozen=[1]),
        lambda values, tensors: values.update(frozen=["nothing"]),
        lambda values, tensors: tensors.pop("0.left.0"),
        lambda values, tensors: tensors.pop("0._extra_state"),
        lambda values, tensors: tensors.update({"0.left.9": torch.ones(2)}),
        lambda values, tensors: tensors.update({"0.spectrum": torch.ones(5)}),
        lambda values, tensors: tensors.update({"0.spectrum": torch.ones(4).double()}),
        lambda values, tensors: tensors.update({"0.spectrum": torch.ones(4).int()}),
        lambda values, tensors: tensors.update({"0._extra_state": torch.ones(3, 3)}),
    ],
)
def test_a_header_or_state_that_contradicts_itself_is_refused(change: Any, path: Path) -> None:
    sr.save(sr.reparameterize(pair(), 4), path)
    changed(path, change)
    refused(path, pair(), str(path))


def test_rows_that_are_no_order_of_the_rows_are_refused(path: Path) -> None:
    model = sr.reparameterize(pair(), 4, frames="householder", spectrum="identity")
    sr.save(model, path)
    name = next(name for name in model.state_dict() if "rows_" in name)
    changed(path, lambda values, tensors: tensors[name].fill_(10**6))
    refused(path, pair(), "is no order of the rows of a frame")


@PATHS
def test_flipped_bits_and_cuts_are_refused_by_name_or_change_nothing(frames: str, path: Path) -> None:
    model = disturb(sr.reparameterize(pair(), 4, frames=frames))
    sr.save(model, path)
    data, draw, told = path.read_bytes(), random.Random(0), 0
    header = 8 + int.from_bytes(data[:8], "little")
    damaged = [data[: draw.randrange(len(data))] for _ in range(50)]
    for end in (header, len(data)):
        for bit in [draw.randrange(8 * end) for _ in range(100)]:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(flipped))
    for case in damaged:
        path.write_bytes(case)
        fresh = pair()
        try:
            sr.load(path, fresh)
        except CheckpointError as error:
            told += 1
            assert str(error).startswith(str(path))  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017
            assert type(fresh[0]) is nn.Linear
        else:
            assert_same(fresh, model)
    assert told >= 240


def test_another_kind_of_sealed_file_is_refused(path: Path) -> None:
    path.write_bytes(seal({}, {}, "sttp_riemann checkpoint 2"))
    refused(path, pair(), "is not of this package's version")


def test_the_header_can_be_read_by_any_program(path: Path) -> None:
    sr.save(sr.reparameterize(pair(), 4, exclude="2"), path)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    layers = json.loads(header["__metadata__"]["values"])["layers"]
    assert list(layers) == ["0"]
    assert layers["0"]["ranks"] == [1, 2, 4, 4, 4, 3, 1]


def test_a_failing_save_leaves_the_file_that_was_there(path: Path) -> None:
    model = sr.reparameterize(pair(), 4)
    sr.save(model, path)
    before = path.read_bytes()
    model.register_buffer("odd", torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match="odd"):
        sr.save(model, path)
    assert path.read_bytes() == before


def test_saving_changes_nothing_in_the_model(path: Path) -> None:
    model = sr.reparameterize(Tied(), 4)
    before, kept = copy.deepcopy(model.state_dict()), [id(p) for p in model.parameters()]
    sr.save(model, path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))
    assert [id(p) for p in model.parameters()] == kept
    assert any(isinstance(p, geoopt.ManifoldParameter) for p in model.parameters())
    assert set(content(model)[1]) == {"layers", "tied", "frozen"}
