"""Dense networks for other programs: the same scores through each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sttp_riemann.errors import CheckpointError
from sttp_riemann.lab import export as exporting
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.saved import load_saved

VARIANTS = {
    "dense": {"method": "dense"},
    "sttp": {"method": "sttp", "frames": "riemannian"},
    "svdp": {"method": "svdp", "frames": "householder"},
}


@pytest.fixture(scope="module", params=list(VARIANTS))
def run(request, tmp_path_factory) -> Path:
    from sttp_riemann.lab.training.recipe import Recipe
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp(request.param) / "run"
    Trainer(Recipe().changed(**{**TINY, **VARIANTS[request.param]}), folder).run()
    return folder


def scores_of(run: Path, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return load_saved(run).network(images)


def test_a_plain_network_takes_the_weights(run, tmp_path, capsys):
    path = tmp_path / "dense.safetensors"
    assert cli.main(["export", str(run), "--to", str(path)]) == 0
    assert f"written to: {path}" in capsys.readouterr().out
    plain = build_model("digits_resnet", num_classes=10, in_channels=1, width=8, depth=1)
    plain.load_state_dict(load_file(path))
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(plain.eval()(images), scores_of(run, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_runtime_gives_the_same_scores(run, tmp_path, count):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    path = tmp_path / "model.onnx"
    assert cli.main(["export", str(run), "--to", str(path)]) == 0
    images = torch.randn(count, 1, 8, 8)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), scores_of(run, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_torch_export_gives_the_same_scores(run, tmp_path, count):
    path = tmp_path / "model.pt2"
    assert cli.main(["export", str(run), "--to", str(path)]) == 0
    images = torch.randn(count, 1, 8, 8)
    scores = torch.export.load(path).module()(images)
    torch.testing.assert_close(scores.detach(), scores_of(run, images), rtol=0, atol=1e-5)


def test_an_unknown_format_is_refused_and_nothing_written(run, tmp_path, capsys):
    assert cli.main(["export", str(run), "--to", str(tmp_path / "model.h5")]) == 2
    assert "model.h5: name a file that ends with .safetensors, .onnx, .pt2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_onnx_needs_is_named_where_it_is_missing(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["export", str(run), "--to", str(tmp_path / "model.onnx")]) == 2
    assert "needs onnx and onnxscript: pip install 'sttp-riemann[export]'" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_of_before_the_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "plain_copy", lambda *_: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"dense.onnx cannot be written"):
        exporting.export(load_saved(run), tmp_path / "file" / "dense.onnx")
