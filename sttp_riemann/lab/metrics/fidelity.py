"""Measure samples against real images with torch-fidelity."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import GenerativeModelModuleWrapper, calculate_metrics
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import prepare_input_from_descriptor

from sttp_riemann.lab.data.vision import downloaded
from sttp_riemann.lab.metrics.classifiers import KINDS, load_classifier
from sttp_riemann.lab.metrics.errors import MetricError
from sttp_riemann.lab.metrics.extractor import EXTRACTORS, OURS, register
from sttp_riemann.lab.metrics.features import Features, build_extractor, weights_only
from sttp_riemann.lab.metrics.kid import KID_ERROR, kid_figures
from sttp_riemann.lab.metrics.modes import mode_figures
from sttp_riemann.sealed import digest

# Names of the results of each metric by ours: torch-fidelity's, where it has them
METRICS: dict[str, dict[str, str]] = {
    "is": {"is": "inception_score_mean", "is_std": "inception_score_std"},
    "fid": {"fid": "frechet_inception_distance"},
    "kid": {
        "kid": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std",
        "kid_error": KID_ERROR,
    },
    "prc": {"precision": "precision", "recall": "recall"},
    "ppl": {"ppl": "perceptual_path_length_mean"},
    "modes": {"modes": "modes", "modes_kl": "modes_kl"},
}
_SWITCHES = {"is": "isc"}
# Of samples and real images, at a layer of the extractor, with torch-fidelity's settings
_CALCULATIONS: dict[str, Callable[[Features, Features, str, dict[str, Any]], dict[str, float]]] = {
    "is": lambda ours, _, layer, known: isc_features_to_metric(ours.of(layer), known["isc_splits"]),
    "fid": lambda ours, real, layer, _: fid_statistics_to_metric(ours.statistics(layer), real.statistics(layer), False),
    "kid": lambda ours, real, layer, known: kid_figures(ours.of(layer), real.of(layer), known),
    "prc": lambda ours, real, layer, known: prc_features_to_metric(ours.of(layer), real.of(layer), **known),
    "modes": lambda ours, _, layer, __: mode_figures(ours.of(layer).squeeze(1)),
}
_ALONE = {"is", "modes"}
"""Metrics of samples that compare with no real images."""
# A covariance needs two samples; precision and recall use the third nearest neighbour
_FEWEST = {"fid": (2, "FID needs"), "prc": (4, "precision and recall need")}
# LPIPS halves images four times
_LPIPS_SIDE = 16


@dataclass(frozen=True)
class MetricOptions:
    """Options of the measurement.

    Attributes
    ----------
    extractor : str
        A key of `EXTRACTORS`.
    weights : str or None
        File with the extractor's weights; None takes the cached ones.
    download : bool
        Whether Inception's weights, or data to train another extractor on, may be downloaded if they are not here.
    is_splits, kid_subsets, kid_subset_size : int
        As in torch-fidelity.
    batch_size : int
        Images at a time.
    cuda : bool
        Whether to compute on a GPU.
    root : str or None
        Folder with the data that the extractor is trained on, where the cache does not hold it.
    """

    extractor: str = "digits"
    weights: str | None = None
    download: bool = False
    is_splits: int = 10
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    batch_size: int = 256
    cuda: bool = False
    root: str | None = None


class Images(Dataset[Tensor]):
    """Images for torch-fidelity: uint8, three channels.

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
        Real images; features of a tensor are cached. None if no metric compares.
    names : sequence of str
        Keys of `METRICS`.
    options : MetricOptions
        How.
    generator : (nn.Module, int, int), optional
        For ``ppl``: from noise to images in [-1, 1], the noise's length, and the number of classes or 0.

    Returns
    -------
    dict[str, float]
        Figure name to value; ``kid_error`` is missing where it cannot be known, see `kid_figures`.

    Raises
    ------
    MetricError
        The extractor's weights are not available, or there are too few images.
    """
    ours, real = _input(samples), None if reference is None else _input(reference)
    layers = check(names, options, len(ours), None if real is None else len(real))
    known = _settings(options)
    found: dict[str, float] = {}
    try:
        if layers:
            extractor = build_extractor(
                EXTRACTORS[options.extractor], sorted(set(layers.values())), options.weights, options.cuda
            )
            # Images of a folder may change, so their features are not kept
            name = digest({"images": real.images}) if isinstance(real, Images) else None
            sets = Features(ours, extractor, known), Features(real, extractor, known, name)
            for metric, layer in layers.items():
                found |= _CALCULATIONS[metric](*sets, layer, known)
        if "ppl" in names:
            if generator is None:
                raise MetricError("perceptual path length needs the generator itself, not only its samples")
            with weights_only():
                found |= calculate_metrics(**known, **_path_length(generator, len(ours), options))
    except MetricError:
        raise
    except (ValueError, OSError) as error:
        raise MetricError(f"torch-fidelity cannot measure: {error}") from error
    figures = ((figure, theirs) for name in names for figure, theirs in METRICS[name].items())
    return {figure: float(found[theirs]) for figure, theirs in figures if theirs in found}


def check(
    names: Sequence[str],
    options: MetricOptions,
    samples: int,
    reference: int | None,
    size: tuple[int, int] | None = None,
) -> dict[str, str]:
    """Refuse metrics that cannot be measured, before any training.

    Parameters
    ----------
    names : sequence of str
        Keys of `METRICS`.
    options : MetricOptions
        How.
    samples : int
        How many samples there will be.
    reference : int or None
        Number of real images; None if there are none.
    size : (int, int), optional
        Channels and side of the images, if known.

    Returns
    -------
    dict[str, str]
        The extractor's layer that each metric uses, except path length, which has its own network.

    Raises
    ------
    MetricError
        The extractor's weights are not available, belong to another network or would execute code; or images are too
        few, too small, or have neither 1 nor 3 channels.
    """
    register()
    if "modes" in names and options.extractor != "stacked_digits":
        raise MetricError(
            "modes are of stacked digits: leave it out, or set extractor to 'stacked_digits', for such data"
        )
    kind = FEATURE_EXTRACTORS_REGISTRY[EXTRACTORS[options.extractor]]
    layers = {n: kind.get_default_feature_layer_for_metric(_SWITCHES.get(n, n)) for n in names if n != "ppl"}
    lpips = "ppl" in names and options.extractor not in OURS
    if lpips and size is not None and size[1] < _LPIPS_SIDE:
        raise MetricError(
            f"ppl needs images of at least {_LPIPS_SIDE} pixels, not {size[1]}: leave it out, or set extractor to "
            "'digits'"
        )
    _check_weights(options, bool(layers), lpips)
    if names and size is not None and size[0] not in (1, 3):
        raise MetricError(f"images have 1 or 3 channels, not {size[0]}: set channels to 1 or 3")
    if names and size is not None:
        _check_channels(options.extractor, size[0])
    if reference is None and layers.keys() - _ALONE:
        raise MetricError(f"there are no real images to compare with, as {min(layers.keys() - _ALONE)} does")
    for count, whose in ((samples, "samples"), (reference, "real images")):
        if count is not None:
            _check_count(layers, options, count, whose)
    return layers


def _check_channels(extractor: str, channels: int) -> None:
    """Refuse images that our classifiers would see as other ones."""
    if extractor in KINDS and channels == 3:
        raise MetricError(
            f"extractor {extractor!r} sees gray images, and these have 3 channels: set channels to 1, or extractor to "
            "'stacked_digits' for data 'stacked_digits'"
        )
    if extractor == "stacked_digits" and channels == 1:
        raise MetricError("extractor 'stacked_digits' sees a digit in each of 3 channels, not 1: set channels to 3")


def _check_count(names: Collection[str], options: MetricOptions, count: int, whose: str) -> None:
    for name, (fewest, who) in _FEWEST.items():
        if name in names and count < fewest:
            raise MetricError(f"{who} at least {fewest} images, and there are {count} {whose}")
    for name, option, of in (("kid", "kid_subset_size", whose), ("is", "is_splits", "samples")):
        if name in names and whose == of and count < getattr(options, option):
            raise MetricError(f"{option} {getattr(options, option)} is more than the {count} {whose}: lower it")


def _check_weights(options: MetricOptions, features: bool, lpips: bool) -> None:
    """Refuse weights that are not there or cannot be read, of the extractor and of path length's own network."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torch_fidelity.sample_similarity_lpips import URL_VGG16_LPIPS
    from torchvision.models import VGG16_Weights

    if features and options.weights is not None and not Path(options.weights).is_file():
        raise MetricError(f"there is no file {options.weights} with the extractor's weights: correct extractor_weights")
    own = options.weights is None and options.extractor not in OURS
    if features and options.weights is None and options.extractor in KINDS:
        load_classifier(options.extractor, root=options.root, download=options.download)
    needed = dict.fromkeys(
        (URL_VGG16_LPIPS, VGG16_Weights.IMAGENET1K_V1.url) if lpips else (), ("ppl", "leave ppl out")
    )
    if features and own:
        needed[URL_INCEPTION_V3] = "the Inception network", "name it in extractor_weights"
    for url, (user, remedy) in needed.items():
        if not options.download and not downloaded(url).is_file():
            raise MetricError(
                f"{Path(url).name}, which {user} needs, is not on this machine: set download to true, put it into "
                f"{downloaded(url).parent}, {remedy}, or set extractor to 'digits'"
            )
    there = downloaded(URL_INCEPTION_V3).is_file() if own else options.weights is not None
    if features and there:
        kind = FEATURE_EXTRACTORS_REGISTRY[EXTRACTORS[options.extractor]]
        try:
            build_extractor(EXTRACTORS[options.extractor], [*kind.get_provided_features_list()][:1], options.weights)
        except ValueError as error:
            raise MetricError(str(error)) from error


def _settings(options: MetricOptions) -> dict[str, Any]:
    return {
        "feature_extractor": EXTRACTORS[options.extractor],
        "feature_extractor_weights_path": options.weights,
        "isc_splits": options.is_splits,
        "kid_subsets": options.kid_subsets,
        "kid_subset_size": options.kid_subset_size,
        "batch_size": options.batch_size,
        "cuda": options.cuda,
        # Its cache would consist of pickles
        "cache": False,
        # Worker processes cost more than they save for images in memory
        "save_cpu_ram": True,
        "verbose": False,
    }


def _input(images: Tensor | Path) -> Images | Any:
    if isinstance(images, Tensor):
        return Images(images)
    # torch-fidelity takes other strings for names of data sets, or for programs to run
    if not images.is_dir():
        raise MetricError(f"there is no folder {images} with images")
    return prepare_input_from_descriptor({"input": str(images.absolute())})


def _path_length(generator: tuple[nn.Module, int, int], count: int, options: MetricOptions) -> dict[str, Any]:
    module, size, classes = generator
    return {
        "ppl": True,
        "input1": GenerativeModelModuleWrapper(_Rgb(module), size, "normal", classes, make_eval=False),
        "input1_model_num_samples": count,
        "input1_model_num_classes": classes,
        "ppl_sample_similarity": OURS.get(options.extractor, "lpips-vgg16"),
        # Steps this small vanish in integers
        "ppl_sample_similarity_dtype": "float32",
        # Its percentiles need a numpy older than 2.4
        "ppl_discard_percentile_lower": None,
        "ppl_discard_percentile_higher": None,
    }


class _Rgb(nn.Module):
    """Wrap a generator: images with three channels and values 0 .. 255."""

    def __init__(self, generator: Callable[..., Tensor]) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        images = self.generator(*inputs)
        return ((images + 1) * 127.5).expand(-1, 3, -1, -1)
