"""A sealed file comes back as it was written, or is refused by name; nothing between."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from sttp_riemann.errors import LONGEST, CheckpointError
from sttp_riemann.lab import recipes
from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoints
from sttp_riemann.sealed import LARGEST_HEADER, SealError, is_sealed, plain_tensors, seal, unseal

KIND = "test 1"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "file.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The last checkpoint of a run of the shipped network, moments and average among its tensors."""
    folder = tmp_path_factory.mktemp("run")
    fields = {"method": "sttp", "ema": 0.5, "steps": 2, "evaluate_every": 2, "device": "cpu"}
    Trainer(Recipe.from_dict(recipes.read("digits")).changed(**fields), folder).run()
    return checkpoints(folder)[-1]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(1.5),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.randn(3, 5).T,
        torch.randn(4).bfloat16(),
        torch.tensor([2**40]),
    ],
    ids=lambda tensor: str(tensor.dtype),
)
def test_a_tensor_of_any_kind_comes_back(tensor, path):
    path.write_bytes(seal({"a": tensor}, {"x": [1, None, 0.1]}, KIND))
    tensors, values = unseal(path, KIND)
    assert values == {"x": [1, None, 0.1]}
    assert tensors["a"].dtype == tensor.dtype
    assert torch.equal(tensors["a"], tensor)


def test_tensors_lie_where_matrix_products_round_as_everywhere(path):
    tensors = {str(n): torch.randn(n) for n in range(1, 30)}
    path.write_bytes(seal(tensors, {}, KIND))
    assert {t.data_ptr() % 64 for t in unseal(path, KIND)[0].values()} == {0}


def test_another_kind_is_refused_by_its_name(path):
    path.write_bytes(seal({}, {}, "test 2"))
    with pytest.raises(SealError, match="is not of this package's version: test 2, not 'test 1'"):
        unseal(path, KIND)


def test_values_too_many_to_be_read_again_are_not_written():
    with pytest.raises(SealError, match="too many to read back"):
        seal({}, {"x": "y" * LARGEST_HEADER}, KIND)


def test_a_dtype_that_the_format_does_not_have_is_named():
    with pytest.raises(SealError, match=r"cannot hold 'b' of torch.complex128; cast it first"):
        seal({"a": torch.ones(2), "b": torch.ones(2, dtype=torch.complex128)}, {}, KIND)


def test_a_file_is_known_as_sealed_or_plain(path):
    path.write_bytes(seal({"a": torch.ones(2)}, {}, KIND))
    assert is_sealed(path)
    path.write_bytes(save({"a": torch.ones(2), "b": torch.zeros(1)}, {"format": "pt"}))
    assert not is_sealed(path)
    assert list(plain_tensors(path, lambda name: name == "b")) == ["b"]
    path.write_bytes(b"pickle")
    for read in (is_sealed, lambda path: plain_tensors(path, lambda name: True)):
        with pytest.raises(SealError, match="truncated or not a safetensors file"):
            read(path)


def refused_or_harmless(content: bytes, path: Path, before) -> str:
    """Read a damaged checkpoint; empty where it is as it was, and else the one line that refuses it."""
    path.write_bytes(content)
    try:
        found = load_checkpoint(path)
    except CheckpointError as error:
        told = str(error)
    else:
        told = ""
        assert found.values == before.values
        assert found.tensors.keys() == before.tensors.keys()
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert told == "" or told.startswith(str(path))
    assert told == "" or told.isprintable()
    assert len(told) <= LONGEST
    return told


def test_flipped_bits_are_refused_by_name_or_change_nothing(trained, path):
    content, before, draw = trained.read_bytes(), load_checkpoint(trained), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    # Most of a file is tensors, so half of the flips are drawn from the header
    bits = [draw.randrange(8 * end) for end in (header, len(content)) for _ in range(100)]
    told = []
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        told.append(refused_or_harmless(bytes(damaged), path, before))
    assert sum(map(bool, told)) >= 190


def test_a_truncated_checkpoint_is_refused(trained, path):
    content, before, draw = trained.read_bytes(), load_checkpoint(trained), random.Random(0)
    for length in [*range(10), *(draw.randrange(len(content)) for _ in range(40))]:
        assert "truncated" in refused_or_harmless(content[:length], path, before)


def with_header(content: bytes, change: Callable[[str], str]) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length].decode()).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def bombs() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    yield "a length beyond the file", lambda content: (2**63).to_bytes(8, "little") + content[8:]
    yield "a length of 2**64 - 1", lambda content: b"\xff" * 8 + content[8:]
    yield "a long header", lambda content: with_header(content, lambda text: text + " " * LARGEST_HEADER)
    yield "deep nesting", lambda content: with_header(content, lambda text: "[" * 10**6)
    yield "deep nesting in a mapping", lambda content: with_header(content, lambda text: '{"a":' * 10**5)
    yield "a list", lambda content: with_header(content, lambda text: "[]")
    yield "no metadata", lambda content: with_header(content, lambda text: '{"a": {}}')
    yield "metadata that are a list", lambda content: with_header(content, lambda text: '{"__metadata__": [1]}')
    yield "a name twice", lambda content: with_header(content, lambda text: '{"__metadata__":{},' + text[1:])
    yield "no UTF-8", lambda content: content[:8] + b"\xff" + content[9:]
    yield "a large number", lambda content: with_header(content, lambda text: "1" * 10**5)
    yield "a huge name", lambda content: with_header(content, lambda text: '{"' + "a" * 10**6 + '":1,' + text[1:])


@pytest.mark.parametrize("bomb", [pytest.param(change, id=name) for name, change in bombs()])
def test_a_header_made_to_harm_is_refused_at_once(bomb, trained, path):
    start = time.process_time()
    assert refused_or_harmless(bomb(trained.read_bytes()), path, load_checkpoint(trained))
    assert time.process_time() - start < 10


def test_a_second_tensor_of_a_name_is_refused(trained, path):
    before = load_checkpoint(trained)
    name = min(before.tensors)

    def twice(text: str) -> str:
        header = json.loads(text)
        entry = json.dumps({name: header[name]})[1:-1]
        return "{" + entry + "," + text[1:]

    assert "occurs twice" in refused_or_harmless(with_header(trained.read_bytes(), twice), path, before)


def test_values_that_were_changed_are_refused(trained, path):
    changed = with_header(trained.read_bytes(), lambda text: text.replace(r"\"step\": 2", r"\"step\": 1", 1))
    assert "the checksum of its values does not match" in refused_or_harmless(changed, path, load_checkpoint(trained))
