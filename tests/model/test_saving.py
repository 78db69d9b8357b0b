"""A saved model comes back into a dense one as it was, bit for bit, or is refused in one line; nothing between."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import sttp_riemann as sr
from sttp_riemann.errors import CheckpointError
from tests.model.saving import IMAGES, Tied, assert_same, pair, stepped
from tests.strategies import DTYPES, FRAMES, METHODS, SEEDS, SPECTRA, disturb, small_network
from tests.strategies import layers as drawn_layers
from tests.workflows.common import PATHS


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
