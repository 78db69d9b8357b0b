from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.torchvision_zoo import pretrained_network

NAME = "squeezenet1_1"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Torchvision's own weights, as if they had been downloaded before."""
    from torchvision.models import get_model_weights

    network = build_model(f"torchvision:{NAME}", num_classes=1000).eval()
    weights = get_model_weights(NAME).DEFAULT
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / weights.url.rsplit("/", 1)[1])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return network


def test_weights_that_were_downloaded_before_are_taken(published):
    network, classes = pretrained_network(NAME)
    images = torch.randn(1, 3, 64, 64)
    assert classes == 1000
    assert not network.training
    assert torch.equal(network(images), published(images))


def test_nothing_is_downloaded_unless_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise OSError("no way out")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(ValueError, match="are not here: allow download, or name a file of weights"):
        pretrained_network(NAME)
    assert not asked
    with pytest.raises(ValueError, match="cannot be had: no way out"):
        pretrained_network(NAME, download=True)
    assert len(asked) == 1


@pytest.mark.parametrize("classes", [7, 1000])
def test_a_file_gives_weights_and_the_number_of_classes(tmp_path, classes):
    network = build_model(f"torchvision:{NAME}", num_classes=classes).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    found, length = pretrained_network(NAME, tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 64, 64)
    assert length == classes
    assert torch.equal(found(images), network(images))


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_in_the_place_of_downloaded_weights_is_refused_and_not_executed(published, tmp_path, capsys):
    (path,) = (tmp_path / "checkpoints").iterdir()
    torch.save(Payload(), path)
    with pytest.raises(ValueError, match=f"the weights of 'torchvision:{NAME}' cannot be had"):
        pretrained_network(NAME)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", ["nothing", "text", "pickle"])
def test_a_file_that_holds_no_weights_is_refused_by_name_and_nothing_executed(tmp_path, content, capsys):
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("no weights")
    if content == "pickle":
        torch.save(Payload(), path)
    with pytest.raises(ValueError, match=r"weights.pth cannot be read as a state_dict"):
        pretrained_network(NAME, path)
    assert "executed" not in capsys.readouterr().out
