"""Modes of stacked digits: by definition, and as the classifier sees them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import entropy

from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.metrics import MetricError, MetricOptions, check, measure
from sttp_riemann.lab.metrics.classifiers import load_classifier
from sttp_riemann.lab.metrics.extractor import StackedExtractor
from sttp_riemann.lab.metrics.modes import mode_figures

OPTIONS = MetricOptions("stacked_digits", kid_subset_size=50, kid_subsets=5, is_splits=2)


@pytest.mark.parametrize("count", [1, 10, 300, 25_600])
@pytest.mark.parametrize("highest", [1, 50, 1000])
def test_modes_are_counted_and_compared_with_uniform_ones(count, highest):
    modes = torch.randint(highest, (count,))
    found = mode_figures(modes)
    assert found["modes"] == len(set(modes.tolist()))
    shares = torch.bincount(modes, minlength=1000).double().numpy() / count
    assert found["modes_kl"] == pytest.approx(entropy(shares, [1 / 1000] * 1000), abs=1e-12)


def test_all_modes_alike_have_no_divergence_and_one_has_the_largest():
    assert mode_figures(torch.arange(2000) % 1000) == {"modes": 1000, "modes_kl": 0}
    found = mode_figures(torch.full((50,), 7))
    assert found["modes"] == 1
    assert found["modes_kl"] == pytest.approx(math.log(1000))


def test_the_classifier_sees_the_modes_of_real_images():
    data = load_dataset("stacked_digits:5000")
    (seen,) = StackedExtractor("x", ["modes"])(data.test_images)
    assert float((seen.squeeze(1) == data.test_labels).float().mean()) > 0.9
    found = measure(data.train_images, None, ["modes"], OPTIONS)
    assert found["modes"] > 990
    assert found["modes_kl"] < 0.05
    assert measure(data.train_images[:1].expand(60, -1, -1, -1), None, ["modes"], OPTIONS)["modes"] == 1


def test_each_channel_is_seen_as_a_gray_image_is():
    images = load_dataset("stacked_digits:1000").train_images[:20]
    features, logits, modes = StackedExtractor("x", ["features", "logits", "modes"])(images)
    alone = [load_classifier().of_gray(images[:, k : k + 1].expand(-1, 3, -1, -1)) for k in range(3)]
    torch.testing.assert_close(features, torch.cat([f for f, _ in alone], 1))
    a, b, c = (found.softmax(1) for _, found in alone)
    together = torch.einsum("na,nb,nc->nabc", a, b, c).flatten(1)
    torch.testing.assert_close(logits.softmax(1), together)
    assert torch.equal(together.argmax(1), modes.squeeze(1).long())


def test_images_of_one_digit_are_not_scored_as_stacked_ones():
    with pytest.raises(MetricError, match="sees a digit in each of 3 channels, not 1: set channels to 3"):
        check(["fid"], OPTIONS, 50, 50, (1, 8))
    with pytest.raises(MetricError, match="modes are of stacked digits: leave it out, or set extractor"):
        check(["modes"], MetricOptions("digits"), 50, 50, (1, 8))


def test_colors_are_not_scored_as_gray_digits():
    images = load_dataset("stacked_digits:1000").train_images[:60]
    options = MetricOptions("digits", kid_subset_size=50)
    with pytest.raises(MetricError, match="extractor 'digits' sees gray images, and these have 3 channels"):
        check(["fid"], options, 60, 60, (3, 8))
    with pytest.raises(MetricError, match="sees gray images, and these have colors: set channels to 1"):
        measure(images, images, ["fid"], options)
    gray = images[:, :1].expand(-1, 3, -1, -1)
    assert measure(gray, gray, ["fid"], options) == pytest.approx(
        measure(gray[:, :1], gray[:, :1], ["fid"], options), abs=1e-6
    )


def test_every_metric_can_be_measured_of_stacked_digits():
    class Generator(torch.nn.Module):
        def forward(self, noise):
            return torch.tanh(noise).view(-1, 3, 8, 8)

    data = load_dataset("stacked_digits:1000")
    names = ["is", "fid", "kid", "prc", "ppl", "modes"]
    found = measure(data.train_images[:60], data.train_images[60:160], names, OPTIONS, (Generator(), 192, 0))
    assert all(math.isfinite(value) for value in found.values())
    assert found["ppl"] > 0
