import sys

import pytest
import torch

from sttp_riemann.lab.networks import build_model


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
