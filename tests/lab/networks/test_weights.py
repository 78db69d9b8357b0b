"""Weights that other programs wrote, and the networks that they fit."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.fitting import network_for
from sttp_riemann.lab.networks.weights import read_weights

STATE = {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)}


@pytest.mark.parametrize(
    "wrapped", [STATE, {"model": STATE, "epoch": 3}, {"state_dict": STATE}, {"model_state_dict": STATE}]
)
def test_a_state_dict_is_found_where_trainers_put_it(tmp_path, wrapped):
    torch.save(wrapped, tmp_path / "x.pth")
    found = read_weights(tmp_path / "x.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_safetensors_file_is_read_and_16_bits_become_32(tmp_path):
    save_file(
        {"half": torch.ones(2, dtype=torch.bfloat16), "double": torch.ones(2).double()}, tmp_path / "x.safetensors"
    )
    found = read_weights(tmp_path / "x.safetensors")
    assert (found["half"].dtype, found["double"].dtype) == (torch.float32, torch.float64)


class _Run:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("content", [_Run(), [torch.ones(2)], {"model": {"a": 5}}, nn.Linear(2, 2), {"a": "text"}])
def test_anything_else_is_refused_and_not_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "x.pth")
    with pytest.raises(ValueError, match=r"weights x.pth cannot be read as a state_dict, .safetensors or .pth"):
        read_weights(tmp_path.relative_to(tmp_path) / "x.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_sizes_of_a_network_follow_from_its_weights(channels):
    network = build_model("digits_resnet", num_classes=7, in_channels=channels, width=4, depth=1)
    found, classes, inner = network_for("digits_resnet", network.state_dict(), {"width": 4, "depth": 1})
    assert (classes, inner) == (7, channels)
    assert all(torch.equal(t, found.state_dict()[name]) for name, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "digits_resnet",
            {"width": 8, "depth": 1},
            "'conv1.weight' is 4x3x3x3, and the network's is 8x3x3x3: name its own",
        ),
        ("digits_resnet", {"width": 4, "depth": 2}, "is missing, and the network's is"),
        ("digits_resnet", {"widht": 4}, "unknown option of network"),
        ("no_net", {}, "unknown network 'no_net'"),
    ],
)
def test_another_network_is_refused_in_words(name, options, message):
    state = build_model("digits_resnet", in_channels=3, width=4, depth=1).state_dict()
    with pytest.raises(ValueError, match=message):
        network_for(name, state, options)
