"""Samples measured against real images by torch-fidelity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import GenerativeModelModuleWrapper, calculate_metrics
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import prepare_input_from_descriptor

from sttp_riemann.lab.metrics.digits_classifier import digest, load_classifier
from sttp_riemann.lab.metrics.extractor import DIGITS, EXTRACTORS, register
from sttp_riemann.lab.metrics.features import Features, build_extractor, file_digest, weights_only

# Torch-fidelity's names of what each metric gives, by ours
METRICS: dict[str, dict[str, str]] = {
    "is": {"is": "inception_score_mean", "is_std": "inception_score_std"},
    "fid": {"fid": "frechet_inception_distance"},
    "kid": {"kid": "kernel_inception_distance_mean", "kid_std": "kernel_inception_distance_std"},
    "prc": {"precision": "precision", "recall": "recall"},
    "ppl": {"ppl": "perceptual_path_length_mean"},
}
_SWITCHES = {"is": "isc"}
# A covariance is of two at least; precision and recall look at the third nearest neighbour
_FEWEST = {"fid": (2, "FID needs"), "prc": (4, "precision and recall need")}
# LPIPS halves images four times
_LPIPS_SIDE = 16


class MetricError(ValueError):
    """A metric that cannot be had; the message names the remedy."""


@dataclass(frozen=True)
class MetricOptions:
    """How images are measured.

    Attributes
    ----------
    extractor : str
        A key of `EXTRACTORS`.
    weights : str or None
        File with the extractor's weights; None takes the cached ones.
    download : bool
        Whether Inception's weights may be downloaded where they are not cached.
    is_splits, kid_subsets, kid_subset_size : int
        As torch-fidelity has them.
    batch_size : int
        Images at a time.
    cuda : bool
        Whether to compute on a GPU.
    """

    extractor: str = "digits"
    weights: str | None = None
    download: bool = False
    is_splits: int = 10
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    batch_size: int = 256
    cuda: bool = False


class Images(Dataset[Tensor]):
    """Images as torch-fidelity wants them: uint8, three channels.

    Parameters
    ----------
    images : Tensor
        Of uint8, (N, C, H, W) with C = 1 or 3.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        return image.expand(3, *image.shape[1:])

    def digest(self) -> str:
        """Name of the content: equal images, equal names."""
        content = hashlib.sha256(str(tuple(self.images.shape)).encode())
        content.update(self.images.contiguous().numpy().tobytes())
        return content.hexdigest()[:16]


def measure(
    samples: Tensor | Path,
    reference: Tensor | Path | None,
    names: Sequence[str],
    options: MetricOptions,
    generator: tuple[nn.Module, int, int] | None = None,
) -> dict[str, float]:
    """Measure samples against real images.

    Parameters
    ----------
    samples : Tensor or Path
        Images as uint8 (N, C, H, W) with C = 1 or 3, or a folder with images.
    reference : Tensor, Path or None
        Real images; what is extracted from a tensor is cached. None where no metric compares.
    names : sequence of str
        Keys of `METRICS`.
    options : MetricOptions
        How.
    generator : (nn.Module, int, int), optional
        For ``ppl``: from noise to images in [-1, 1], the noise's length, and the number of classes or 0.

    Returns
    -------
    dict[str, float]
        Figure name to value.

    Raises
    ------
    MetricError
        The extractor's weights cannot be had, or there are too few images.
    """
    layers = check(names, options, len(_input(samples)), None if reference is None else len(_input(reference)))
    known = _settings(options)
    found: dict[str, float] = {}
    try:
        if layers:
            extractor = build_extractor(
                EXTRACTORS[options.extractor], sorted(set(layers.values())), options.weights, options.cuda
            )
            ours = Features(_input(samples), extractor, known)
            if reference is not None:
                real = Features(_input(reference), extractor, known, _name(reference, options))
            if "is" in layers:
                found |= isc_features_to_metric(ours.of(layers["is"]), options.is_splits)
            if "fid" in layers:
                layer = layers["fid"]
                found |= fid_statistics_to_metric(ours.statistics(layer), real.statistics(layer), verbose=False)
            if "kid" in layers:
                found |= kid_features_to_metric(ours.of(layers["kid"]), real.of(layers["kid"]), **known)
            if "prc" in layers:
                found |= prc_features_to_metric(ours.of(layers["prc"]), real.of(layers["prc"]), **known)
        if "ppl" in names:
            if generator is None:
                raise MetricError("perceptual path length needs the generator itself, not only its samples")
            with weights_only():
                found |= calculate_metrics(**known, **_path_length(generator, len(_input(samples)), options))
    except MetricError:
        raise
    except (ValueError, OSError) as error:
        raise MetricError(f"torch-fidelity cannot measure: {error}") from error
    return {ours: float(found[theirs]) for name in names for ours, theirs in METRICS[name].items()}


def check(
    names: Sequence[str],
    options: MetricOptions,
    samples: int,
    reference: int | None,
    size: tuple[int, int] | None = None,
) -> dict[str, str]:
    """Refuse what cannot be measured, before any training.

    Parameters
    ----------
    names : sequence of str
        Keys of `METRICS`.
    options : MetricOptions
        How.
    samples : int
        How many samples there will be.
    reference : int or None
        How many real images there are; None where there are none.
    size : (int, int), optional
        Channels and side of the images, where they are known.

    Returns
    -------
    dict[str, str]
        The extractor's layer that each metric looks at, without path length, which has a network of its own.

    Raises
    ------
    MetricError
        The extractor's weights cannot be had, are of another network or would be executed; or images are too few, too
        small or of another number of channels than 1 and 3.
    """
    register()
    if set(names) - {"ppl"}:
        _check_weights(options)
    if "ppl" in names and options.extractor != "digits":
        _check_lpips(options, size)
    if names and size is not None and size[0] not in (1, 3):
        raise MetricError(f"images have 1 or 3 channels, not {size[0]}: set channels to 1 or 3")
    kind = FEATURE_EXTRACTORS_REGISTRY[EXTRACTORS[options.extractor]]
    layers = {n: kind.get_default_feature_layer_for_metric(_SWITCHES.get(n, n)) for n in names if n != "ppl"}
    if reference is None and layers.keys() - {"is"}:
        raise MetricError(f"there are no real images to compare with, as {min(layers.keys() - {'is'})} does")
    _check_counts(layers, options, samples, reference)
    return layers


def _check_counts(names: Collection[str], options: MetricOptions, samples: int, reference: int | None) -> None:
    for count, whose in ((samples, "samples"), (reference, "real images")):
        if count is None:
            continue
        for name, (fewest, who) in _FEWEST.items():
            if name in names and count < fewest:
                raise MetricError(f"{who} at least {fewest} images, and there are {count} {whose}")
        if "kid" in names and count < options.kid_subset_size:
            raise MetricError(f"kid_subset_size {options.kid_subset_size} is more than the {count} {whose}: lower it")
    if "is" in names and samples < options.is_splits:
        raise MetricError(f"is_splits {options.is_splits} is more than the {samples} samples: lower it")


def _check_lpips(options: MetricOptions, size: tuple[int, int] | None) -> None:
    """Refuse path length where its network cannot be had, or images are too small for it."""
    if size is not None and size[1] < _LPIPS_SIDE:
        raise MetricError(
            f"ppl needs images of at least {_LPIPS_SIDE} pixels, not {size[1]}: leave it out, or set extractor to "
            "'digits'"
        )
    from torch_fidelity.sample_similarity_lpips import URL_VGG16_LPIPS
    from torchvision.models import VGG16_Weights

    for url in (URL_VGG16_LPIPS, VGG16_Weights.IMAGENET1K_V1.url):
        if not options.download and not _cached(url).is_file():
            raise MetricError(
                f"{Path(url).name}, which ppl needs, is not on this machine: set download to true, put it into "
                f"{_cached(url).parent}, leave ppl out, or set extractor to 'digits'"
            )


def _cached(url: str) -> Path:
    """Where torch keeps what it downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def _settings(options: MetricOptions) -> dict[str, Any]:
    return {
        "feature_extractor": EXTRACTORS[options.extractor],
        "feature_extractor_weights_path": options.weights,
        "isc_splits": options.is_splits,
        "kid_subsets": options.kid_subsets,
        "kid_subset_size": options.kid_subset_size,
        "batch_size": options.batch_size,
        "cuda": options.cuda,
        # It would keep pickles
        "cache": False,
        # Worker processes for images that are in memory already cost more than they save
        "save_cpu_ram": True,
        "verbose": False,
    }


def _name(reference: Tensor | Path, options: MetricOptions) -> str | None:
    """Name real images and the extractor's weights together; None for a folder, whose images may change."""
    if isinstance(reference, Path):
        return None
    path = None if options.weights is None else Path(options.weights)
    weights = digest(load_classifier(path)) if options.extractor == "digits" else file_digest(path) if path else "own"
    return f"{Images(reference).digest()}-{options.extractor}-{weights}"


def _input(images: Tensor | Path) -> Images | Any:
    if isinstance(images, Tensor):
        return Images(images)
    # Torch-fidelity takes other texts for names of data sets, or for programs that it then runs
    if not images.is_dir():
        raise MetricError(f"there is no folder {images} with images")
    return prepare_input_from_descriptor({"input": str(images.absolute())})


def _check_weights(options: MetricOptions) -> None:
    if options.weights is not None and not Path(options.weights).is_file():
        raise MetricError(f"there is no file {options.weights} with the extractor's weights: mend extractor_weights")
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    if options.extractor != "digits" and options.weights is None and not _cached(URL_INCEPTION_V3).is_file():
        if options.download:
            return
        raise MetricError(
            "the Inception network's weights are not on this machine: set download to true, name their file in "
            "extractor_weights, or set extractor to 'digits' or metrics to []"
        )
    if options.weights is not None or options.extractor != "digits":
        kind = FEATURE_EXTRACTORS_REGISTRY[EXTRACTORS[options.extractor]]
        try:
            build_extractor(EXTRACTORS[options.extractor], [*kind.get_provided_features_list()][:1], options.weights)
        except ValueError as error:
            raise MetricError(str(error)) from error


def _path_length(generator: tuple[nn.Module, int, int], count: int, options: MetricOptions) -> dict[str, Any]:
    module, size, classes = generator
    return {
        "ppl": True,
        "input1": GenerativeModelModuleWrapper(_Rgb(module), size, "normal", classes, make_eval=False),
        "input1_model_num_samples": count,
        "input1_model_num_classes": classes,
        "ppl_sample_similarity": DIGITS if options.extractor == "digits" else "lpips-vgg16",
        # Steps this small vanish in whole numbers
        "ppl_sample_similarity_dtype": "float32",
        # Its percentiles need a numpy older than 2.4
        "ppl_discard_percentile_lower": None,
        "ppl_discard_percentile_higher": None,
    }


class _Rgb(nn.Module):
    """A generator's images with three channels and values 0 .. 255."""

    def __init__(self, generator: Callable[..., Tensor]) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        images = self.generator(*inputs)
        return ((images + 1) * 127.5).expand(-1, 3, -1, -1)
