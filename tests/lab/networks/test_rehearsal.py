"""A network is tried on one input, and is afterwards what it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.rehearsal import check_scores


@pytest.mark.parametrize("training", [False, True])
def test_a_network_is_the_same_after_its_rehearsal(training):
    network = nn.Sequential(build_model("digits_resnet", in_channels=1, width=8), nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    check_scores(network, torch.zeros(1, 1, 8, 8), None, (1, 10), training)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_conditional_discriminator_is_given_a_label():
    network = build_model("sngan8_discriminator", num_classes=10, in_channels=1, width=8)
    check_scores(network, torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64), (1,), training=False)


@pytest.mark.parametrize(
    ("name", "image", "wanted", "message"),
    [
        ("digits_resnet", (3, 8, 8), (1, 10), "does not work on inputs of 3x8x8: "),
        (
            "digits_resnet",
            (1, 8, 8),
            (1, 7),
            r"gives \(1, 10\) for one input, not one number for each class or label, \(1",
        ),
        ("digits_resnet", (1, 8, 8), (1,), r"gives \(1, 10\) for one input, not one score, \(1,\)"),
    ],
)
def test_a_network_for_something_else_is_refused_in_words(name, image, wanted, message):
    with pytest.raises(ValueError, match=message):
        check_scores(build_model(name, in_channels=1, width=8), torch.zeros(1, *image), None, wanted, training=False)


def test_a_network_that_gives_no_tensor_is_refused():
    with pytest.raises(ValueError, match="gives str for one input"):
        check_scores(_Strange(), torch.zeros(1, 1, 8, 8), None, (1, 10), training=False)


class _Strange(nn.Module):
    def forward(self, images):
        return "scores"


def test_batch_normalization_of_single_values_is_seen_in_training_mode():
    network = build_model("digits_resnet", in_channels=1, width=8)
    check_scores(network, torch.zeros(1, 1, 1, 1), None, (1, 10), training=False)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        check_scores(network, torch.zeros(1, 1, 1, 1), None, (1, 10), training=True)
