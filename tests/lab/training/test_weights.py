"""Training from given dense weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.represent import build_network, load_data
from sttp_riemann.lab.training.saved import load_saved

SMALL = {"width": 8, "depth": 1}


@pytest.fixture
def given(tmp_path) -> nn.Module:
    """A network whose weights lie in ``given.pth``, as a trainer saves them."""
    network = build_model("digits_resnet", in_channels=1, **SMALL)
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "given.pth")
    return network


def built(recipe) -> nn.Module:
    return build_network(recipe, load_data(recipe), 10)


def test_a_dense_network_starts_from_them(given, tiny, tmp_path):
    model = built(tiny(method="dense", weights=str(tmp_path / "given.pth")))
    assert all(torch.equal(t, given.state_dict()[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("frames", ["riemannian", "householder"])
@pytest.mark.parametrize("method", ["svdp", "sttp"])
def test_a_low_rank_one_starts_from_their_decomposition(given, tiny, tmp_path, method, frames):
    recipe = tiny(method=method, frames=frames, rank=1.0, init="dense", weights=str(tmp_path / "given.pth"))
    model = built(recipe).eval()
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(model(x), given.eval()(x), rtol=1e-3, atol=1e-4)


def test_a_run_is_read_again_without_the_file_and_another_starts_from_it(given, tiny, tmp_path):
    recipe = tiny(method="dense", weights=str(tmp_path / "given.pth"), steps=1, evaluate_every=1)
    run = Trainer(recipe, tmp_path / "run")
    run.run()
    (tmp_path / "given.pth").unlink()
    trained = load_saved(tmp_path / "run").network
    second = built(tiny(method="dense", weights=str(tmp_path / "run")))
    for name, tensor in trained.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
        assert torch.equal(run.task.players["classifier"].model.state_dict()[name], tensor)


def test_weights_of_another_network_are_refused_by_name(given, tiny, tmp_path):
    path = str(tmp_path / "given.pth")
    with pytest.raises(
        CheckpointError, match=r"given.pth: 'conv1.weight' is 8x1x3x3 float32, and the network's is 4x1x3x3"
    ):
        built(tiny(method="dense", weights=path, network_options={"width": 4, "depth": 1}))
    (tmp_path / "other.pth").write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=r"other.pth cannot be read as a state_dict"):
        built(tiny(method="dense", weights=str(tmp_path / "other.pth")))
    with pytest.raises(RecipeError, match="there is no checkpoint"):
        built(tiny(method="dense", weights=str(tmp_path / "none.pth")))
