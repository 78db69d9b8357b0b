import inspect

import pytest
import torch

from sttp_riemann.lab.networks import NETWORKS, build_model


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_classes_and_channels(name):
    assert {"num_classes", "in_channels"} <= set(inspect.signature(NETWORKS[name]).parameters)


def test_a_classifier_has_ten_classes_unless_told():
    assert build_model("cifar_resnet", depth=8).linear.out_features == 10


def test_a_gan_is_unconditional_unless_told():
    assert build_model("sngan32_generator", width=16).num_classes is None


def test_the_global_seed_decides_the_weights():
    torch.manual_seed(3)
    first = build_model("digits_resnet", width=8).state_dict()
    torch.manual_seed(3)
    second = build_model("digits_resnet", width=8).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_misspelt_network_gets_a_suggestion():
    with pytest.raises(ValueError, match="unknown network 'digit_resnet'; did you mean 'digits_resnet'"):
        build_model("digit_resnet")


def test_misspelt_option_gets_a_suggestion():
    with pytest.raises(ValueError, match="option of network 'wide_resnet' 'widen_facter'; did you mean 'widen_factor'"):
        build_model("wide_resnet", widen_facter=2)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("num_classes", {"num_classes": 0}), ("in_channels", {"in_channels": 0}), ("width", {"width": -8})],
)
def test_number_below_one_is_refused(field, arguments):
    with pytest.raises(ValueError, match=f"{field} must be at least 1"):
        build_model("digits_resnet", **arguments)
