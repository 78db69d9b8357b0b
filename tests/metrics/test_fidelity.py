from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sttp_riemann.data import load_dataset
from sttp_riemann.metrics import METRICS, MetricError, MetricOptions, measure
from sttp_riemann.metrics.cache import cache_folder
from sttp_riemann.metrics.digits_classifier import FILE
from sttp_riemann.metrics.fidelity import Images

OPTIONS = MetricOptions(kid_subset_size=50, kid_subsets=7, is_splits=3)
# Torch-fidelity's own command line, once it knows the extractor
FIDELITY = "from sttp_riemann.metrics import register; from torch_fidelity.fidelity import main; register(); main()"


def noisy(images: torch.Tensor, seed: int) -> torch.Tensor:
    noise = torch.randint(-60, 61, images.shape, generator=torch.Generator().manual_seed(seed))
    return (images.int() + noise).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def digits():
    data = load_dataset("digits")
    return noisy(data.test_images[:200], 1), data.train_images[:300]


def write(images: torch.Tensor, folder: Path) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[0].numpy(), mode="L").convert("RGB").save(folder / f"{index:04d}.png")
    return folder


def test_metrics_equal_torch_fidelitys_command_line(digits, tmp_path):
    samples, reference = (write(images, tmp_path / str(index)) for index, images in enumerate(digits))
    arguments = [
        "--isc",
        "--fid",
        "--kid",
        "--prc",
        "--isc-splits",
        "3",
        "--kid-subsets",
        "7",
        "--kid-subset-size",
        "50",
    ]
    files = ["--input1", str(samples), "--input2", str(reference), "--feature-extractor", "sttp-digits"]
    command = [sys.executable, "-c", FIDELITY, *files, *arguments, "--cpu", "--json", "--silent", "--no-cache"]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    names = ["is", "fid", "kid", "prc"]
    expected = {ours: theirs[name] for metric in names for ours, name in METRICS[metric].items()}
    # In other batches than theirs, so sums may differ by rounding
    assert measure(samples, reference, names, OPTIONS) == pytest.approx(expected, rel=1e-6)
    assert measure(*digits, names, OPTIONS) == pytest.approx(expected, rel=1e-6)
    assert expected["fid"] > 1


def test_images_are_best_measured_against_themselves(digits):
    _, reference = digits
    found = measure(reference, reference, ["fid", "prc"], OPTIONS)
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert found["precision"] == found["recall"] == 1


def test_more_noise_is_worse(digits):
    data, reference = load_dataset("digits").test_images, digits[1]
    worse = noisy(noisy(noisy(data, 1), 2), 3)
    assert measure(worse, reference, ["fid"], OPTIONS)["fid"] > 2 * measure(data, reference, ["fid"], OPTIONS)["fid"]


def test_what_is_extracted_from_real_images_is_kept(digits, tmp_path, monkeypatch):
    shutil.copy(cache_folder() / FILE, tmp_path / FILE)
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(tmp_path))
    first = measure(*digits, ["fid"], OPTIONS)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "fidelity").iterdir()}
    assert kept
    assert measure(*digits, ["fid"], OPTIONS) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "fidelity").iterdir()} == kept


def test_other_real_images_are_not_taken_for_those_kept(digits):
    samples, reference = digits
    first = measure(samples, reference, ["fid"], OPTIONS)
    assert measure(samples, 255 - reference, ["fid"], OPTIONS)["fid"] > 2 * first["fid"]


def test_path_length_is_longer_where_images_change_faster():
    class Linear(torch.nn.Module):
        def __init__(self, speed: float) -> None:
            super().__init__()
            self.speed = speed

        def forward(self, noise):
            return torch.tanh(self.speed * noise).view(-1, 1, 8, 8)

    samples = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
    slow, fast = (measure(samples, None, ["ppl"], OPTIONS, (Linear(s), 64, 0))["ppl"] for s in (0.01, 0.1))
    assert 0 < slow < fast


def test_path_length_of_a_conditional_generator_knows_the_classes():
    seen = []

    class Conditional(torch.nn.Module):
        def forward(self, noise, labels):
            seen.append(labels)
            return torch.tanh(noise).view(-1, 1, 8, 8)

    measure(torch.zeros(60, 1, 8, 8, dtype=torch.uint8), None, ["ppl"], OPTIONS, (Conditional(), 64, 10))
    assert set(torch.cat(seen).tolist()) <= set(range(10))
    assert len(torch.cat(seen).unique()) > 5


def test_path_length_without_the_generator_is_refused(digits):
    with pytest.raises(MetricError, match="needs the generator itself"):
        measure(*digits, ["ppl"], OPTIONS)


def test_too_few_images_are_refused_in_torch_fidelitys_words(digits):
    with pytest.raises(MetricError, match="KID subset size 1000 cannot be smaller"):
        measure(*digits, ["kid"], MetricOptions())


def test_missing_inception_weights_are_refused_with_the_remedy(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MetricError, match="not on this machine: set download to true"):
        measure(*digits, ["fid"], MetricOptions("inception-v3-compat"))
    with pytest.raises(MetricError, match="there is no file"):
        measure(*digits, ["fid"], MetricOptions("inception-v3-compat", str(tmp_path / "none.pth")))


def test_gray_images_have_three_equal_channels():
    image = Images(torch.from_numpy(np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)))[0]
    assert image.shape == (3, 2, 2)
    assert (image[0] == image[2]).all()
