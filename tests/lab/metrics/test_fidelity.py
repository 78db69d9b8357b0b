from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.metrics import METRICS, MetricError, MetricOptions, check, measure
from sttp_riemann.lab.metrics.cache import cache_folder
from sttp_riemann.lab.metrics.classifiers import KINDS
from sttp_riemann.lab.metrics.features import build_extractor
from sttp_riemann.lab.metrics.fidelity import Images
from sttp_riemann.sealed import digest

OPTIONS = MetricOptions(kid_subset_size=50, kid_subsets=7, is_splits=3)
# Torch-fidelity's own command line, once it knows the extractor
FIDELITY = "from sttp_riemann.lab.metrics import register; from torch_fidelity.fidelity import main; register(); main()"


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
    expected = {ours: theirs[name] for metric in names for ours, name in METRICS[metric].items() if name in theirs}
    # In other batches than theirs, so sums may differ by rounding
    for images in ((samples, reference), digits):
        found = measure(*images, names, OPTIONS)
        # Torch-fidelity has none
        assert found.pop("kid_error") > 0
        assert found == pytest.approx(expected, rel=1e-6)
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
    shutil.copy(cache_folder() / KINDS["digits"].file, tmp_path / KINDS["digits"].file)
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


@pytest.mark.parametrize(
    ("names", "changes", "counts", "message"),
    [
        (["kid"], {"kid_subset_size": 51}, (50, 60), "kid_subset_size 51 is more than the 50 samples: lower it"),
        (["kid"], {"kid_subset_size": 51}, (60, 50), "kid_subset_size 51 is more than the 50 real images: lower it"),
        (["is"], {"is_splits": 51}, (50, None), "is_splits 51 is more than the 50 samples: lower it"),
        (["fid"], {}, (1, 50), "FID needs at least 2 images, and there are 1 samples"),
        (["fid"], {}, (50, 1), "FID needs at least 2 images, and there are 1 real images"),
        (["prc"], {}, (50, 3), "precision and recall need at least 4 images, and there are 3 real images"),
    ],
)
def test_too_few_images_are_refused(names, changes, counts, message):
    with pytest.raises(MetricError, match=message):
        check(names, MetricOptions(**changes), *counts)


@pytest.mark.parametrize("name", ["is", "fid", "kid", "prc"])
def test_as_few_images_as_are_taken_can_be_measured(name, digits):
    images = digits[1][:4]
    options = MetricOptions(is_splits=4, kid_subsets=2, kid_subset_size=4)
    assert all(value == value for value in measure(images, images, [name], options).values())


def test_images_that_no_extractor_takes_are_refused():
    with pytest.raises(MetricError, match="images have 1 or 3 channels, not 2: set channels to 1 or 3"):
        check(["is"], OPTIONS, 50, None, (2, 8))


def test_path_length_tells_before_any_training_which_weights_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    inception = MetricOptions("inception-v3-compat")
    with pytest.raises(MetricError, match="at least 16 pixels, not 8: leave it out, or set extractor to 'digits'"):
        check(["ppl"], inception, 50, None, (3, 8))
    (tmp_path / "checkpoints").mkdir()
    for name in ("weights-vgg16-lpips.pth", "vgg16-397923af.pth"):
        with pytest.raises(MetricError, match=f"{name}, which ppl needs, is not on this machine: set download"):
            check(["ppl"], inception, 50, None, (3, 16))
        (tmp_path / "checkpoints" / name).touch()
    assert check(["ppl"], inception, 50, None, (3, 16)) == {}


def test_missing_inception_weights_are_refused_with_the_remedy(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MetricError, match="not on this machine: set download to true"):
        measure(*digits, ["fid"], MetricOptions("inception-v3-compat"))
    with pytest.raises(MetricError, match="there is no file"):
        measure(*digits, ["fid"], MetricOptions("inception-v3-compat", str(tmp_path / "none.pth")))


class Malicious:
    """What touches a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("extractor", ["inception-v3-compat", "digits"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_pickle_for_weights_is_refused_and_not_executed(extractor, name, digits, tmp_path):
    path, trace = tmp_path / name, tmp_path / "executed"
    torch.save({"weight": Malicious(trace)}, path)
    options = MetricOptions(extractor, str(path))
    for refused in (lambda: measure(*digits, ["fid"], options), lambda: check(["fid"], options, 10, 10)):
        with pytest.raises(MetricError, match=f"{path} cannot be read as the weights of"):
            refused()
    assert not trace.exists()


def test_a_pickle_in_the_place_of_downloaded_weights_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path, trace = tmp_path / "checkpoints" / Path(URL_INCEPTION_V3).name, tmp_path / "executed"
    path.parent.mkdir()
    torch.save(Malicious(trace), path)
    with pytest.raises(MetricError, match="its own file cannot be read as the weights"):
        check(["fid"], MetricOptions("inception-v3-compat"), 10, 10)
    assert not trace.exists()


def test_weights_that_hold_tensors_only_are_read(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    torch.save({"weight": torch.zeros(1)}, path)
    assert type(build_extractor("inception-v3-compat", ["2048"], str(path))) is FeatureExtractorInceptionV3


def cached(folder: Path) -> list[Path]:
    return sorted((folder / "fidelity").iterdir())


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    shutil.copy(cache_folder() / KINDS["digits"].file, folder / KINDS["digits"].file)
    monkeypatch.setenv("STTP_RIEMANN_CACHE", str(folder))
    return folder


def test_no_pickle_in_the_cache_is_executed_whatever_its_name(digits, own_cache, tmp_path):
    first = measure(*digits, ["fid", "kid"], OPTIONS)
    trace = tmp_path / "executed"
    names = [path.stem for path in cached(own_cache)]
    for name in names:
        for suffix in (".safetensors", ".pt"):
            torch.save(Malicious(trace), own_cache / "fidelity" / f"{name}{suffix}")
    # The name under which torch-fidelity itself would look
    name = digest({"images": digits[1]})
    for what in ("features-features", "stat-fid-features"):
        torch.save(Malicious(trace), own_cache / "fidelity" / f"{name}-sttp-digits-{what}.pt")
    assert measure(*digits, ["fid", "kid"], OPTIONS) == first
    assert not trace.exists()


@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_damaged_features_in_the_cache_are_extracted_anew(metric, digits, own_cache):
    first = measure(*digits, [metric], OPTIONS)
    for path in cached(own_cache):
        content = bytearray(path.read_bytes())
        content[-3] ^= 64
        path.write_bytes(content)
    assert measure(*digits, [metric], OPTIONS) == first


def test_features_of_other_images_under_a_name_are_not_taken(digits, own_cache):
    samples, reference = digits
    first = measure(samples, reference, ["fid"], OPTIONS)
    paths = cached(own_cache)
    measure(samples, 255 - reference, ["fid"], OPTIONS)
    others = [path for path in cached(own_cache) if path not in paths]
    for path, other in zip(paths, others, strict=True):
        shutil.copy(other, path)
    assert measure(samples, reference, ["fid"], OPTIONS) == first


def test_a_link_in_the_cache_is_not_followed(digits, own_cache, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (own_cache / "fidelity").symlink_to(tmp_path / "elsewhere")
    measure(*digits, ["fid"], OPTIONS)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_folder_of_images_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.pth").touch()
    for name in ("program.pth", "cifar10-train"):
        with pytest.raises(MetricError, match=f"there is no folder {name} with images"):
            measure(Path(name), digits[1], ["fid"], OPTIONS)


def test_too_few_images_for_precision_and_recall_are_refused(digits):
    with pytest.raises(MetricError, match="precision and recall need at least 4 images, and there are 3 samples"):
        measure(digits[0][:3], digits[1], ["prc"], OPTIONS)


def test_a_metric_that_compares_needs_real_images(digits):
    with pytest.raises(MetricError, match="no real images to compare with, as fid does"):
        measure(digits[0], None, ["fid"], OPTIONS)


def test_torchs_own_switches_are_as_before(digits, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    measure(*digits, ["fid"], OPTIONS)
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_gray_images_have_three_equal_channels():
    image = Images(torch.from_numpy(np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)))[0]
    assert image.shape == (3, 2, 2)
    assert (image[0] == image[2]).all()


def test_images_that_no_network_made_measure_as_the_guide_says(digits_cache):
    data = load_dataset("digits")
    real, held = (
        ((data.batch(torch.arange(count), train=train)[0] + 1) * 127.5).round().to(torch.uint8)
        for count, train in ((len(data.train_labels), True), (len(data.test_labels), False))
    )
    found = measure(held, real, ["fid", "is", "prc"], MetricOptions("digits", is_splits=5))
    assert found["fid"] < 1
    assert found["is"] > 8
    assert found["precision"] > 0.7
    assert found["recall"] > 0.8
