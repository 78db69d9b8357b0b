"""Adapters are saved alone, and come back onto the pretrained weights bit for bit, or are refused in one line."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import sttp_riemann as sr
from sttp_riemann.errors import CheckpointError
from sttp_riemann.model.stored import FORMAT
from sttp_riemann.sealed import unseal
from tests.model.adapting import ROWS, STARTS, loss_of, made, moved
from tests.model.saving import IMAGES, Tied, assert_same, pair, refused
from tests.strategies import small_network
from tests.workflows.common import PATHS, VARIANTS


def pretrained() -> nn.Sequential:
    torch.manual_seed(0)
    return pair()


@VARIANTS
@STARTS
def test_adapters_come_back_onto_the_pretrained_weights_and_train_on(
    method: str, frames: str, start: str, path: Path
) -> None:
    model = moved(made(start, method=method, frames=frames, scale=0.5, trainable="2.bias"))
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    loss_of(model).backward()
    optimizer.step()
    sr.save(model, path)
    held = load_file(path)
    assert not any(name.endswith(("base", "weight", "0.bias")) for name in held)
    assert {name for name in held if name.endswith("bias")} == {"2.bias"}
    found = sr.load(path, pretrained())
    assert_same(found, model)
    assert torch.equal(found(ROWS), model(ROWS))
    again = sr.RiemannianAdam(found.parameters(), lr=1e-2)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for own, other in ((model, optimizer), (found, again)):
        other.zero_grad()
        loss_of(own).backward()
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))


def test_a_network_with_statistics_comes_back(path: Path) -> None:
    torch.manual_seed(0)
    dense = small_network()
    model = moved(sr.adapt(copy.deepcopy(dense), 4, start="pissa", exclude="11", trainable=("1", "11")))
    model(IMAGES)  # moves the statistics
    sr.save(model, path)
    found = sr.load(path, dense)
    assert_same(found, model)
    assert torch.equal(found.eval()(IMAGES), model.eval()(IMAGES))


@PATHS
def test_adapters_load_into_a_model_with_the_same_adapters(frames: str, path: Path) -> None:
    model = moved(made("pissa", frames=frames))
    sr.save(model, path)
    assert_same(sr.load(path, made("pissa", frames=frames)), model)
    refused(path, made("zero", frames=frames), "layer '0' does not fit: start is 'zero' here and 'pissa' in the state")
    refused(path, made("pissa", frames=frames, scale=2.0), "scale is 2.0 here and 1.0 in the state")
    refused(path, sr.merge(made("pissa", frames=frames)), "layer '0' cannot be loaded into: it is merged")


@STARTS
def test_another_base_is_refused(start: str, path: Path) -> None:
    sr.save(moved(made(start)), path)
    message = "'{}' of the model is not what these adapters were trained on; load the same pretrained weights"
    for name, shown in (("0.weight", "0.base"), ("0.bias", "0.bias")):
        other = pretrained()
        with torch.no_grad():
            other.get_parameter(name).view(-1)[0].add_(1e-4)
        refused(path, other, message.format(shown))
    refused(
        path, pretrained().double(), "is .*float32.* in the file and .*float64.* in the model|not what these adapters"
    )
    with torch.device("meta"):
        empty = pair()
    with pytest.raises(CheckpointError, match="on the meta device, and adapters need the pretrained weights"):
        sr.load(path, empty)


@STARTS
def test_a_whole_state_brings_its_base_along(start: str) -> None:
    model = moved(made(start))
    found = sr.load(model.state_dict(), pair())
    assert torch.equal(found(ROWS), model(ROWS))
    assert {n for n, p in found.named_parameters() if p.requires_grad and "base" in n} == set()
    twin = made(start)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(ROWS), model(ROWS))
    with pytest.raises(RuntimeError, match="load it before you call adapt"):
        twin.load_state_dict(pair().state_dict())
    with pytest.raises(RuntimeError, match=r"scale is None here and 1\.0 in the state"):
        sr.reparameterize(pair(), 3, spectrum="free").load_state_dict(model.state_dict())


def test_a_merged_model_is_saved_as_before_it_was_merged(path: Path) -> None:
    model = moved(made("pissa"))
    sr.save(model, path)
    tensors, values = unseal(path, FORMAT)
    sr.save(sr.merge(model), path)
    merged, others = unseal(path, FORMAT)
    assert others == values
    assert list(merged) == list(tensors)
    assert all(torch.equal(tensor, merged[name]) for name, tensor in tensors.items())


def test_tied_adapters_stay_tied(path: Path) -> None:
    torch.manual_seed(0)
    dense = Tied()
    model = moved(sr.adapt(copy.deepcopy(dense), 3))
    sr.save(model, path)
    found = sr.load(path, dense)
    assert_same(found, model)
    assert found.head.left is found.words.left
    assert found.head.base is found.words.base


def test_attention_comes_back(path: Path) -> None:
    torch.manual_seed(0)
    dense, x = nn.MultiheadAttention(12, 2, batch_first=True), torch.randn(2, 4, 12)
    model = moved(sr.adapt(copy.deepcopy(dense), 3, start="pissa", exclude="k_proj"))
    sr.save(model, path)
    found = sr.load(path, dense)
    assert torch.equal(found(x, x, x)[0], model(x, x, x)[0])


def test_a_model_that_was_cast_after_a_pissa_start_is_not_saved_as_what_cannot_be_found_again(path: Path) -> None:
    model = made("pissa").bfloat16().float()
    with pytest.raises(ValueError, match=r"layer '0' of the model was cast after adapt\(start='pissa'\)"):
        sr.save(model, path)
    assert not path.exists()
    cast = moved(made("zero")).bfloat16()
    sr.save(cast, path)
    assert_same(sr.load(path, pretrained().bfloat16()), cast)
