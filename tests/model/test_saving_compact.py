"""Compact files: as many numbers as degrees of freedom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.errors import CheckpointError
from sttp_riemann.model.contents import content
from sttp_riemann.model.packing import pack, unpack
from sttp_riemann.model.stored import FORMAT
from sttp_riemann.sealed import seal

FRAMES = pytest.mark.parametrize("frames", ["riemannian", "householder"])


class Net(nn.Module):
    """Convolutions, batch norm, a linear layer, and one that is tied to it."""

    def __init__(self, width: int = 12, tied: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.linear = nn.Linear(width, width)
        self.tied = nn.Linear(width, width)
        if tied:
            self.tied.weight = self.linear.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.second(torch.relu(self.norm(self.first(images))))
        return self.tied(torch.relu(self.linear(maps.mean((2, 3)))))


def trained(steps: int = 3, width: int = 12, **options: object) -> nn.Module:
    torch.manual_seed(0)
    model = sr.reparameterize(Net(width).double(), init="orthogonal", **options)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 6, 6, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
    return model


def images() -> torch.Tensor:
    return torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@FRAMES
@pytest.mark.parametrize("method", ["sttp", "svdp"])
@pytest.mark.parametrize("spectrum", ["identity", "learned", "free"])
@pytest.mark.parametrize("pivots", [True, False])
def test_what_is_loaded_computes_the_same_in_the_same_kind_of_frames(
    frames: str, method: str, spectrum: str, pivots: bool, tmp_path: Path
) -> None:
    model = trained(rank=5, frames=frames, method=method, spectrum=spectrum, pivots=pivots)
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    again = sr.load(tmp_path / "model.safetensors", Net().double())
    torch.testing.assert_close(again.eval()(images()), model.eval()(images()), rtol=1e-10, atol=1e-10)
    assert {name: layer.told() for name, layer in _spectral(again)} == {n: la.told() for n, la in _spectral(model)}
    assert again.tied.left is again.linear.left
    assert sr.orthogonality_error(again) < 1e-12


def test_householder_frames_are_loaded_bit_for_bit(tmp_path: Path) -> None:
    model = trained(rank=5, frames="householder")
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    again = sr.load(tmp_path / "model.safetensors", Net().double()).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


@FRAMES
@pytest.mark.parametrize("method", ["sttp", "svdp"])
def test_a_file_is_as_small_as_the_degrees_of_freedom(frames: str, method: str, tmp_path: Path) -> None:
    model = sr.reparameterize(Net(width=256, tied=False), rank=32, method=method, frames=frames)
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    held = {id(tensor) for _, layer in _spectral(model) for tensor in layer.factor_parameters()}
    others = [p for p in model.parameters() if id(p) not in held] + [b for b in model.norm.buffers() if b.ndim]
    numbers = sr.compression(model).dof + sum(tensor.numel() for tensor in others)
    assert (tmp_path / "model.safetensors").stat().st_size < 1.05 * 4 * numbers


def test_saving_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    model = trained(rank=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_frozen_frames_stay_frozen_and_others_are_trained(tmp_path: Path) -> None:
    model = trained(rank=5)
    model.second.requires_grad_(False)
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    again = sr.load(tmp_path / "model.safetensors", Net().double())
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in again.named_parameters()} == wanted


def test_a_model_in_half_precision_keeps_its_frames_in_float32(tmp_path: Path) -> None:
    model = sr.reparameterize(Net().bfloat16(), rank=5)
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    again = sr.load(tmp_path / "model.safetensors", Net().bfloat16())
    assert {p.dtype for p in again.linear.left.parameters()} == {torch.float32}
    before, after = model.second.weight.float(), again.second.weight.float()
    torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-6)


def test_another_model_is_refused_and_left_alone(tmp_path: Path) -> None:
    class More(Net):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Parameter(torch.zeros(7))

    sr.save(trained(rank=5), tmp_path / "model.safetensors", compact=True)
    other = More().double()
    with pytest.raises(
        CheckpointError, match=r"the file has other tensors than the model \(.* there, .* here\); build"
    ):
        sr.load(tmp_path / "model.safetensors", other)
    assert type(other.linear) is nn.Linear
    with pytest.raises(CheckpointError, match="load into a fresh dense model"):
        sr.load(tmp_path / "model.safetensors", trained(rank=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": 3}, "packed in its header must have a layout, frames and common"),
        ({"more": 3}, "packed in its header must have a layout, frames and common"),
        ({"frames": {"third": "riemannian"}}, "frames in its header names 'third', which is no layer of it"),
        ({"frames": {"first": "square"}}, "unknown frames 'square'"),
        ({"layout": "0" * 32}, "the file has other tensors than the model"),
    ],
)
def test_a_header_that_tells_something_else_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tensors, values = content(trained(rank=5), compact=True)
    values["packed"] = {**values["packed"], **changes}
    (tmp_path / "model.safetensors").write_bytes(seal(tensors, values, FORMAT))
    with pytest.raises(CheckpointError, match=message):
        sr.load(tmp_path / "model.safetensors", Net().double())


@pytest.mark.parametrize("group", ["float64", "signs", "integers"])
def test_tensors_of_other_lengths_or_types_are_refused(group: str, tmp_path: Path) -> None:
    tensors, values = content(trained(rank=5, frames="householder"), compact=True)
    own = tensors[group]
    for other in ({group: own[1:]}, {group: own[None]}, {group: own.bool()}, {group: own, "more": torch.zeros(1)}):
        (tmp_path / "model.safetensors").write_bytes(seal({**tensors, **other}, values, FORMAT))
        with pytest.raises(CheckpointError, match="the file has other tensors than the model"):
            sr.load(tmp_path / "model.safetensors", Net().double())


def test_a_compact_file_needs_a_name_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give path a name that ends with \.safetensors"):
        sr.save(trained(rank=5), tmp_path / "folder", compact=True)
    assert not list(tmp_path.iterdir())


def test_layers_that_hold_nan_are_refused(tmp_path: Path) -> None:
    model = trained(rank=5)
    with torch.no_grad():
        next(model.second.left.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="second"):
        sr.save(model, tmp_path / "model.safetensors", compact=True)
    assert not list(tmp_path.iterdir())


def test_adapters_are_compact_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dense = Net(tied=False).double()
    state = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    model = sr.adapt(dense, rank=3)
    with torch.no_grad():
        model.second.spectrum.fill_(0.5)
    sr.save(model, tmp_path / "model.safetensors", compact=True)
    fresh = Net(tied=False).double()
    fresh.load_state_dict(state)
    again = sr.load(tmp_path / "model.safetensors", fresh)
    torch.testing.assert_close(again.eval()(images()), model.eval()(images()), rtol=1e-10, atol=1e-10)


def test_whole_numbers_and_signs_take_the_fewest_bytes_that_hold_them() -> None:
    tensors = {
        "left.rows_0": torch.tensor([300, 0, 2]),
        "left.sign_0": torch.tensor([1.0, -1.0, -1.0]),
        "right.sign_0": torch.ones(9),
        "steps": torch.tensor(7),
        "weight": torch.randn(2, 3),
    }
    flat, layout = pack(tensors, ())
    assert {name: tensor.dtype for name, tensor in flat.items()} == {
        "integers": torch.int16, "signs": torch.uint8, "float32": torch.float32
    }  # fmt: skip
    assert len(flat["signs"]) == 2
    found = unpack(flat, layout, tensors)
    assert found is not None
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )


def _spectral(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "told")]
