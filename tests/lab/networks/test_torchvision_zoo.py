import sys

import pytest
import torch
from safetensors.torch import save_file

from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.torchvision_zoo import pretrained_network

NAME = "squeezenet1_1"


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet"])
def test_torchvision_network_takes_the_channels_and_gives_the_classes_asked_for(name):
    model = build_model(f"torchvision:{name}", num_classes=5, in_channels=1)
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 5)


def test_the_new_first_convolution_is_otherwise_the_old_one():
    old = build_model("torchvision:resnet18").conv1
    new = build_model("torchvision:resnet18", in_channels=2).conv1
    assert str(new) == str(old).replace("Conv2d(3,", "Conv2d(2,")
    assert new.weight.shape == (64, 2, 7, 7)


def test_weights_are_random_not_pretrained():
    torch.manual_seed(0)
    first = build_model("torchvision:squeezenet1_1")
    torch.manual_seed(1)
    second = build_model("torchvision:squeezenet1_1")
    assert not torch.equal(first.features[0].weight, second.features[0].weight)


def test_options_reach_torchvision():
    assert build_model("torchvision:squeezenet1_1", dropout=0.125).classifier[0].p == 0.125


def test_option_that_the_network_lacks_is_refused():
    with pytest.raises(ValueError, match=r"does not take these options.*wings"):
        build_model("torchvision:resnet18", wings=2)


def test_misspelt_network_gets_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        build_model("torchvision:resnet_18")


def test_network_for_another_task_is_unknown():
    with pytest.raises(ValueError, match="unknown torchvision network"):
        build_model("torchvision:fcn_resnet50")


def test_a_network_without_a_convolution_of_the_image_takes_three_channels_only(monkeypatch):
    import torchvision

    blind = torch.nn.Sequential(torch.nn.Linear(3, 3))
    monkeypatch.setattr(torchvision.models, "get_model", lambda *args, **kwargs: blind)
    with pytest.raises(ValueError, match="set channels to 3"):
        build_model("torchvision:resnet18", in_channels=1)


def test_missing_torchvision_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"pip install 'sttp-riemann\[vision\]'"):
        build_model("torchvision:resnet18")


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
