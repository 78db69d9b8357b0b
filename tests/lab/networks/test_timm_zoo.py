"""timm's networks as ``timm:NAME``."""

from __future__ import annotations

import sys

import pytest
import torch

from sttp_riemann.lab.networks import build_model

NAME = "timm:test_resnet"


def test_a_network_takes_channels_classes_and_options():
    pytest.importorskip("timm")
    network = build_model(NAME, num_classes=7, in_channels=1, drop_rate=0.5)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert network.drop_rate == 0.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:test_resnt", {}, "unknown timm network 'test_resnt'; did you mean 'test_resnet"),
        ("timm:hf-hub:someone/model", {}, "unknown timm network 'hf-hub:someone/model'"),
        (NAME, {"checkpoint_path": "x.pth"}, "takes no checkpoint_path: give its weights with --weights FILE"),
        (NAME, {"pretrained": True}, "takes no pretrained"),
        (NAME, {"colour": 1}, "does not take these options"),
    ],
)
def test_what_timm_does_not_have_or_would_download_is_refused(name, options, message):
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=message):
        build_model(name, **options)


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="network 'timm:resnet18' needs timm: pip install timm"):
        build_model("timm:resnet18")
