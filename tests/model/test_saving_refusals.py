"""A file or a model that does not fit is refused by name, before anything has changed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geoopt
import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

import sttp_riemann as sr
from sttp_riemann.errors import CheckpointError
from sttp_riemann.layers.options import encode
from sttp_riemann.model.contents import content
from sttp_riemann.model.stored import FORMAT
from sttp_riemann.sealed import seal, unseal
from tests.model.saving import Own, Tied, assert_same, pair, refused
from tests.strategies import disturb
from tests.workflows.common import PATHS

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
    "bound_of": ["layer", None, ["operator"]],
    "dtype": ["float8", "float32", 16],
    "unknown": [1],
}
WRONG_SETTINGS = {
    "weight": ["18", [18, "12"], [18], None],
    "application": ["fast", None],
    "recompute": [True],
    "memory": [0, -1.0, "1", None, float("nan")],
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


@pytest.mark.parametrize(
    ("spectrum", "more", "reason"),
    [("free", {}, "a free spectrum has no bound"), ("learned", {"scale": 1.0, "start": "zero"}, "an adapter has no")],
)
def test_a_bound_of_an_operator_is_refused_where_there_is_none(
    spectrum: str, more: dict[str, Any], reason: str, path: Path
) -> None:
    sr.save(sr.reparameterize(pair(), 4, spectrum=spectrum), path)

    def change(values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        told = {**values["layers"]["0"], **more, "bound_of": "operator"}
        values["layers"]["0"] = told
        tensors["0._extra_state"] = encode({key: told[key] for key in told if key not in WRONG_SETTINGS})

    changed(path, change)
    refused(path, pair(), f"layer '0'.*{reason}")


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
