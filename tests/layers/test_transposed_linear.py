"""transformers' Conv1D: known by name, its weight is (in, out)."""

from __future__ import annotations

import pickle
import subprocess
import sys

import torch
from torch import nn

import sttp_riemann as sr
from tests.strategies import transposed_linear


def test_the_weight_stays_transposed_and_the_layer_what_it_was() -> None:
    dense = transposed_linear()
    layer = sr.reparameterize(transposed_linear(), 4)
    assert layer.weight.shape == dense.weight.shape == (12, 18)
    assert isinstance(layer, type(dense))
    assert not isinstance(layer, nn.Linear)
    assert "nf=18, nx=12, rank=4" in repr(layer)
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(layer(x), x @ layer.weight + layer.bias)


def test_it_survives_a_pickle_and_a_trip_through_another_process(tmp_path) -> None:
    layer = sr.reparameterize(nn.Sequential(transposed_linear()), 4)
    (tmp_path / "layer.pt").write_bytes(pickle.dumps(layer))
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'layer.pt')!r}, 'rb'))[0].rank)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "4"


def test_the_library_does_not_import_transformers() -> None:
    code = "import sys, torch, sttp_riemann as sr; sr.reparameterize(torch.nn.Linear(4, 4), 2); print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sttp_riemann.layers.linear" in names
    assert "transformers" not in names
